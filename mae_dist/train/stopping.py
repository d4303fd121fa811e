"""Being asked to stop: a signal or a notice on any rank, agreed by all ranks at the same step."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from enum import IntEnum
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist


class Request(IntEnum):
    """What a training is asked for; of several requests the greatest counts."""

    NONE = 0
    MOVE = 1
    """Its place is about to go away: save, and go on elsewhere."""
    END = 2
    """The job is about to end: save, and go on when it is run again."""


class StoppedError(RuntimeError):
    """Training stopped because it was asked to; `request` says for what."""

    def __init__(self, message: str, request: Request) -> None:
        super().__init__(message, request)
        self.request = request

    def __str__(self) -> str:
        return str(self.args[0])


class StopRequest:
    """Whether anybody asked. All ranks hear of it at the same step, one step after, and none ever waits.

    The question goes round beside the step, over gloo on the host, so that no device has to be waited for.
    `timeout_seconds` bounds it where a group of its own is needed.
    """

    def __init__(self, *, timeout_seconds: float = 1800) -> None:
        # A set, because a signal handler may add to it while the thread that it interrupts does the same.
        self._asked = {Request.NONE}
        self._answer = torch.zeros(1, dtype=torch.int32)
        self._work: Any = None
        self._group: Any = None
        if dist.is_initialized() and "gloo" not in dist.get_backend():
            self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))

    def ask(self, request: Request = Request.MOVE) -> None:
        """Ask this training to save and stop; from any thread, as often as one likes."""
        self._asked.add(request)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Meanwhile a SIGTERM of this process asks, if `catch_sigterm` has been called."""
        _LISTENING.append(self)
        try:
            yield
        finally:
            _LISTENING.remove(self)

    def agreed(self) -> Request:
        """What any rank had been asked for by the last call; a collective call, once in every step."""
        if not dist.is_initialized():
            return max(self._asked)
        self.settle()
        agreed = Request(int(self._answer))
        self._answer = torch.tensor([max(self._asked)], dtype=torch.int32)
        self._work = dist.all_reduce(self._answer, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return agreed

    def settle(self) -> None:
        """Wait for the question that is on its way, before the group does something else or ends."""
        if self._work is not None:
            self._work.wait()
            self._work = None


# A process has one SIGTERM, and a training cannot catch it: it runs in a thread, and only the main one may.
_LISTENING: list[StopRequest] = []


def catch_sigterm() -> None:
    """Make SIGTERM ask the training that listens in this process; the main thread has to call this.

    While none does, the signal means what it meant before.
    """
    before = signal.getsignal(signal.SIGTERM)

    def on_signal(number: int, frame: FrameType | None) -> None:
        if _LISTENING:
            ask_this_process()
        elif callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, before)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, on_signal)


def ask_this_process() -> None:
    """Ask the training that listens in this process, if one does, to save and move."""
    for stop in list(_LISTENING):
        stop.ask()
