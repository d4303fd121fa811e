"""`mae-dist status RUN`: where the steps of a run stand, from any machine that can read its storage."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict

from rich.console import Console

from mae_dist import storage
from mae_dist.cli.status_page import status_page
from mae_dist.orchestrate.pulse import Driver, Pulse
from mae_dist.report.run_steps import RunSteps, StepReader

LOOK_SECONDS = 1.0
"""Between two looks at a driver on another host."""
PIPED_COLUMNS = 240
"""Width of a table that is written to a file, where nothing has to be broken."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN and --json."""
    add_run_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the same as one JSON object")


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    """RUN, the same for every command that follows a run."""
    parser.add_argument("run", metavar="RUN", help="run directory, as a job printed it; may be s3://...")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, or one JSON object; 2 if RUN is no run directory."""
    uri = storage.absolute(arguments.run)
    reader = StepReader(uri)
    # Before the steps: what a driver that has ended by now had to say of them is then all there.
    driver = heard(Pulse(uri))
    steps = read_with(reader, driver)
    if arguments.json:
        json.dump(asdict(steps) | {"driver": asdict(driver)}, sys.stdout, indent=2)
        print()
        return 0
    console = terminal()
    console.print(status_page(steps, driver, console))
    return 0


def heard(pulse: Pulse) -> Driver:
    """The driver once it is known whether it lives, which takes a while if that is on another host."""
    driver = pulse.look()
    if driver.life != "listening":
        return driver
    with Console(stderr=True).status(f"listening for driver {driver.number} on {driver.host} ..."):
        while driver.life == "listening":
            time.sleep(LOOK_SECONDS)
            driver = pulse.look()
    return driver


def read_with(reader: StepReader, driver: Driver) -> RunSteps:
    """The steps, of which none is being done where the driver that said so no longer works."""
    steps = reader.read()
    is_of_another = steps.driver is not None and steps.driver < driver.number
    return steps.abandoned() if is_of_another or driver.life in ("ended", "gone") else steps


def terminal() -> Console:
    """A console that breaks no line where there is no terminal to break it for."""
    return Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS)
