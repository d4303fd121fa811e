"""`mae-dist watch RUN`: the steps of a run as they go, until its driver has ended."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live

from mae_dist import storage
from mae_dist.cli.status import add_run_argument, read_with, terminal
from mae_dist.cli.status_page import driver_line, state_line, status_page
from mae_dist.orchestrate.pulse import Driver, Pulse
from mae_dist.report.run_steps import RunSteps, StepReader

LOOK_SECONDS = 2.0
"""Between two looks; the driver writes down progress as often."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN."""
    add_run_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the steps until nobody works on them; Ctrl-C ends the watching, not the run.

    0 if all steps are done or one stops watching, 1 if one is not done, 2 if RUN is no run directory.
    """
    uri = storage.absolute(arguments.run)
    looks = _looks(StepReader(uri), Pulse(uri))
    console = terminal()
    try:
        last = _draw(console, looks) if console.is_terminal else _tell(console, looks)
    except KeyboardInterrupt:
        return 0
    return 0 if last.is_complete else 1


def _looks(reader: StepReader, pulse: Pulse) -> Iterator[tuple[RunSteps, Driver]]:
    """What one look after the other sees; the last one is of a run that nobody works on."""
    while True:
        driver = pulse.look()
        yield read_with(reader, driver), driver
        if driver.life not in ("alive", "listening"):
            return
        time.sleep(LOOK_SECONDS)


def _draw(console: Console, looks: Iterator[tuple[RunSteps, Driver]]) -> RunSteps:
    """A table that changes in its place; the steps as they were seen last."""
    steps: RunSteps | None = None
    with Live(console=console, auto_refresh=False) as live:
        for steps, driver in looks:
            live.update(status_page(steps, driver, console), refresh=True)
    assert steps is not None  # there is one look at least
    return steps


def _tell(console: Console, looks: Iterator[tuple[RunSteps, Driver]]) -> RunSteps:
    """A line for each step that has changed since the look before; the steps as they were seen last."""
    steps: RunSteps | None = None
    said: dict[str, str] = {}
    for steps, driver in looks:
        lines = {step.name: state_line(step) for step in steps.steps} | {"": driver_line(steps, driver)}
        for name, line in lines.items():
            if said.get(name) != line:
                # A reason may hold brackets, which are no markup.
                console.print(line, highlight=False, markup=False, soft_wrap=True)
        said = lines
    assert steps is not None  # there is one look at least
    return steps
