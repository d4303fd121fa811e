"""`mae-dist cancel RUN [STEP]`: ask the driver of a run to end one step, or everything."""

from __future__ import annotations

import argparse
import socket
import sys
import time
import uuid

import psutil

from mae_dist import storage
from mae_dist.cli.status import add_run_argument, heard, read_with
from mae_dist.cli.status_page import driver_line
from mae_dist.orchestrate.pulse import Driver, Pulse
from mae_dist.report.run_steps import FINISHED, RunSteps, StepReader

PATIENCE_SECONDS = 15.0
"""How long the driver is given to take the request; it looks for one every few seconds."""
LOOK_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN [STEP]."""
    add_run_argument(parser)
    parser.add_argument(
        "step", metavar="STEP", nargs="?", help="as `mae-dist status` names it; all without it"
    )


def run(arguments: argparse.Namespace) -> int:
    """0 once the driver has taken the request, 1 if there is nothing to cancel or nobody to do it.

    2 if RUN is no run directory, or STEP none of its steps.
    """
    uri, name = storage.absolute(arguments.run), arguments.step
    reader, pulse = StepReader(uri), Pulse(uri)
    driver = heard(pulse)
    steps = read_with(reader, driver)
    if name is not None and steps.step(name) is None:
        print(steps.no_such_step(name), file=sys.stderr)
        return 2
    problem = _in_vain(steps, driver, name)
    if problem is not None:
        print(problem, file=sys.stderr)
        return 1
    request = storage.join(uri, "requests", f"cancel-{uuid.uuid4().hex}.json")
    by = f"{psutil.Process().username()}@{socket.gethostname()}"
    # The driver's number, so that one that takes over later can tell that it is not meant.
    storage.write_json(request, {"step": name, "by": by, "driver": driver.number})
    return _wait(request, pulse, uri, name or "the run")


def _in_vain(steps: RunSteps, driver: Driver, name: str | None) -> str | None:
    """Why nothing can be cancelled; None if it can be."""
    step = None if name is None else steps.step(name)
    if step is not None and step.state in FINISHED:
        return f"{step.name} is {step.state} already; nothing to cancel"
    if step is None and steps.is_over:
        return f"{steps.uri}: every step has ended already; nothing to cancel"
    if driver.life != "alive":
        return f"{steps.uri}: nothing to cancel, because no driver works on it: {driver_line(steps, driver)}"
    return None


def _wait(request: str, pulse: Pulse, uri: str, what: str) -> int:
    """Until the driver has taken the request, by which it disappears."""
    until = time.monotonic() + PATIENCE_SECONDS
    while storage.exists(request):
        driver = pulse.look()
        if driver.life in ("ended", "gone"):
            # Nobody is to find it later: whoever runs the job again wants it run.
            storage.delete(request)
            print(f"driver {driver.number} has ended before it took the request; withdrawn", file=sys.stderr)
            return 1
        if time.monotonic() > until:
            print(
                f"driver {driver.number} lives and has not taken the request within {PATIENCE_SECONDS:g} s; "
                f"it stays in {request}\n  whether it is taken   mae-dist status {uri}\n"
                f"  to withdraw it        delete that file",
                file=sys.stderr,
            )
            return 1
        time.sleep(LOOK_SECONDS)
    print(f"the driver ends {what}; how far that is: mae-dist status {uri}")
    return 0
