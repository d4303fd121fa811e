"""`mae-dist logs RUN STEP`: what a step has said, and the traceback it ended with."""

from __future__ import annotations

import argparse
import codecs
import sys
import time

from mae_dist import storage
from mae_dist.cli.status import add_run_argument, read_with
from mae_dist.orchestrate.pulse import Pulse
from mae_dist.report.run_steps import FINISHED, StepReader, StepState

LOOK_SECONDS = 1.0
"""Between two looks for more."""
MARK_BYTES = 1 << 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN STEP [--follow]."""
    add_run_argument(parser)
    parser.add_argument("step", metavar="STEP", help="as `mae-dist status` names it")
    parser.add_argument("--follow", "-f", action="store_true", help="go on until the step has ended")


def run(arguments: argparse.Namespace) -> int:
    """Print the step's log, and its traceback.txt if it failed; 1 if it has said nothing, 2 if RUN or STEP is
    none. Ctrl-C ends the following, not the step."""
    try:
        return _print_log(storage.absolute(arguments.run), arguments.step, is_followed=arguments.follow)
    except KeyboardInterrupt:
        return 0


def _print_log(uri: str, name: str, *, is_followed: bool) -> int:
    reader, pulse = StepReader(uri), Pulse(uri)
    tail = _Tail(uri)
    while True:
        driver = pulse.look()
        steps = read_with(reader, driver)
        step = steps.step(name)
        if step is None:
            print(steps.no_such_step(name), file=sys.stderr)
            return 2
        tail.print_more(step)
        nobody_adds = step.state in FINISHED or driver.life not in ("alive", "listening")
        if nobody_adds or not is_followed:
            break
        time.sleep(LOOK_SECONDS)
    trace = _traceback(uri, step)
    sys.stdout.write(trace)
    if tail.is_empty and not trace:
        print(_silence(step, is_recorded=steps.is_recorded), file=sys.stderr)
        return 1
    return 0


class _Tail:
    """Prints a log that grows; when a step is tried again it may be another file."""

    def __init__(self, run_uri: str) -> None:
        self._run_uri = run_uri
        self._log: str | None = None
        self._num_bytes = 0
        self._last = b""
        """What was printed last, by which its place is found again."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.is_empty = True

    def print_more(self, step: StepState) -> None:
        """What has come since the last call."""
        if step.log is None:
            return
        if step.log != self._log:
            self._log, self._num_bytes, self._last = step.log, 0, b""
            self._decoder.reset()
        try:
            more = self._beyond(storage.join(self._run_uri, step.log))
        except storage.StorageNotFoundError:  # named before its first line is written
            return
        self.is_empty = self.is_empty and not more
        sys.stdout.write(self._decoder.decode(more))
        sys.stdout.flush()

    def _beyond(self, uri: str) -> bytes:
        start = self._num_bytes - len(self._last)
        data = storage.read_bytes(uri, start=start)
        if data.startswith(self._last):
            more = data[len(self._last) :]
        else:  # in an object store lies the end of a long log alone, so that what was printed moves
            data, start = storage.read_bytes(uri), 0
            place = data.find(self._last)
            more = data if place < 0 else data[place + len(self._last) :]
        self._num_bytes = start + len(data)
        self._last = (self._last + more)[-MARK_BYTES:]
        return more


def _traceback(run_uri: str, step: StepState) -> str:
    """What the last attempt failed with; "" if it did not."""
    if step.state not in ("failed", "retrying"):
        return ""
    try:
        data = storage.read_bytes(storage.join(run_uri, step.output, "traceback.txt"))
    except storage.StorageNotFoundError:
        return ""
    return f"\n{step.name} {step.state}: {step.reason}\n{data.decode(errors='replace').rstrip()}\n"


def _silence(step: StepState, *, is_recorded: bool) -> str:
    if not is_recorded:
        return f"{step.name} is {step.state}; the version of mae_dist that ran it kept no logs"
    return f"{step.name} is {step.state} and has said nothing" + (f": {step.reason}" if step.reason else "")
