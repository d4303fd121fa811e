"""Being asked to stop: a signal or a notice on any rank, agreed by all ranks at the same step."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist


class StoppedError(RuntimeError):
    """Training stopped because it was asked to; its state is saved."""


class StopRequest:
    """Whether anybody asked. All ranks hear of it at the same step, one step after, and none ever waits.

    The question goes round beside the step, over gloo on the host, so that no device has to be waited for.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._answer = torch.zeros(1, dtype=torch.int32)
        self._work: Any = None
        self._group: Any = None
        if dist.is_initialized() and "gloo" not in dist.get_backend():
            self._group = dist.new_group(backend="gloo")

    def ask(self) -> None:
        """Ask this training to save and stop; from any thread, as often as one likes."""
        self._asked.set()

    def listen(self) -> None:
        """Let SIGTERM ask. Only a main thread can listen to signals; elsewhere somebody has to call `ask`."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_signal)

    def is_agreed(self) -> bool:
        """Whether any rank had been asked by the last call; a collective call, once in every step."""
        if not dist.is_initialized():
            return self._asked.is_set()
        self.settle()
        agreed = bool(self._answer)
        self._answer = torch.tensor([int(self._asked.is_set())], dtype=torch.int32)
        self._work = dist.all_reduce(self._answer, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return agreed

    def settle(self) -> None:
        """Wait for the question that is on its way, before the group does something else or ends."""
        if self._work is not None:
            self._work.wait()
            self._work = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.ask()
