"""When a run has to stop: a loss that is no number any more."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; says at which steps to look."""


class LossGuard:
    """Remembers on the device whether any loss was not finite, and tells all ranks together.

    Asking costs a synchronisation, so the loop asks when it logs and before it saves: a checkpoint never
    holds a state that came after a non-finite loss.
    """

    def __init__(self, device: torch.device) -> None:
        self._bad = torch.zeros((), device=device)
        self._since = 0

    def watch(self, loss: Tensor) -> None:
        """Take note of one micro-batch's loss; no synchronisation."""
        self._bad += (~torch.isfinite(loss.detach())).float()

    def check(self, step: int) -> None:
        """Raise NonFiniteLossError on every rank if any rank met a non-finite loss since the last check."""
        if dist.is_initialized():
            dist.all_reduce(self._bad)
        count = int(self._bad)
        if count:
            raise NonFiniteLossError(
                f"the loss of {count} micro-batch(es) between step {self._since} and {step} was NaN or "
                "infinite; training stopped before anything was saved from it. A lower optim.base_lr, a "
                "longer train.warmup or optim.clip_grad_norm=1.0 are the usual cures"
            )
        self._bad.zero_()
        self._since = step
