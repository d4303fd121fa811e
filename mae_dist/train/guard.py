"""Steps that must not be taken: losses and gradients that are no numbers, or far too large.

A loss that is not finite makes the whole gradient of its rank NaN, the exchange of gradients carries that to
all ranks, and every engine leaves a step alone whose gradient norm is not finite or above the limit that the
guard has set from the norms before. So all ranks agree about a step without a collective of its own, and what
the guard does follows from numbers that all of them have:

    bad step            named in skipped.jsonl; the weights stay as they were
    `patience` in a row the weights are blamed: back to the last good checkpoint, the steps since then skipped
    too often           NonFiniteLossError, which says which samples, which rank, which step
"""

from __future__ import annotations

import json
import logging
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mae_dist import storage
from mae_dist.config.resilience import GuardConfig

log = logging.getLogger(__name__)

REMEMBERED_NORMS = 100
ENOUGH_NORMS = 20
"""Good steps before a gradient can be called a spike."""
NAMED_SAMPLES = 16
"""Of one micro-batch in a message; skipped.jsonl has all."""


class NonFiniteLossError(RuntimeError):
    """Training cannot go on; says at which steps, on which ranks and with which samples it went wrong."""


@dataclass(kw_only=True, slots=True)
class GuardState:
    """What later verdicts depend on; saved with every checkpoint, the same on all ranks."""

    streak: int = 0
    """Bad steps in a row up to now."""
    rollbacks: int = 0
    norms: list[float] = field(default_factory=list)
    """Gradient norms of the last good steps."""
    skipped: list[tuple[int, int]] = field(default_factory=list)
    """First and last step of every stretch without effect on the weights."""


class LossGuard:
    """Watches every loss and gradient of one training.

    `log_uri` is the file that rank 0 adds bad steps to. With `overflow_is_normal` (float16) a gradient that
    is not finite while all losses are is the loss scale's business and not counted.
    """

    def __init__(
        self,
        config: GuardConfig,
        *,
        log_uri: str,
        state: Mapping[str, Any] | None = None,
        overflow_is_normal: bool = False,
    ) -> None:
        self._config, self._log_uri, self._overflow_is_normal = config, log_uri, overflow_is_normal
        self.state = GuardState(**(state or {}))
        self._watched: list[tuple[Tensor, Any]] = []
        self._last: list[str] = []

    def watch(self, loss: Tensor, samples: Any) -> Tensor:
        """The loss of one micro-batch, to go backward from: all its gradients are NaN if it is not finite."""
        self._watched.append((loss.detach(), samples))
        return loss * torch.where(torch.isfinite(loss.detach()), 1.0, torch.nan).to(loss.dtype)

    @property
    def skip_above(self) -> float:
        """Gradient norm above which the next step is not to be made: `spike` times the median, or inf."""
        if self._config.spike is None or len(self.state.norms) < ENOUGH_NORMS:
            return math.inf
        return self._config.spike * statistics.median(self.state.norms)

    def is_hopeless(self, step: int, norm: Tensor) -> bool:
        """Judge the step made with `skip_above`; whether training has to go back to a checkpoint.

        Reads the norm, which the engine itself has just read. Collective only if the step was bad.
        """
        watched, self._watched = self._watched, []
        size = float(norm)
        reason = self._reason(size)
        if reason is not None:
            told = _gather([(float(loss), _plain(samples)) for loss, samples in watched])
            culprits = _culprits(told)
            if culprits or not (self._overflow_is_normal and not math.isfinite(size)):
                self._count(step, reason, size, culprits or told)
                return self.state.streak >= self._config.patience
            return False
        self.state.streak = 0
        self.state.norms = [*self.state.norms, size][-REMEMBERED_NORMS:]
        return False

    def go_back(self, *, now: int, to: int | None) -> None:
        """Take note that the steps after `to` up to `now` are undone; raises NonFiniteLossError if it is too
        often or there is no checkpoint."""
        if to is None or self.state.rollbacks >= self._config.rollbacks:
            why = "there is no checkpoint yet" if to is None else f"guard.rollbacks={self._config.rollbacks}"
            named = self._last[-self._config.patience :]
            spikes = any("(spike" in line for line in named)
            raise NonFiniteLossError(
                f"{self.state.streak} bad steps in a row at step {now}, and no way back ({why}). A lower "
                "optim.base_lr, a longer train.warmup or optim.clip_grad_norm=1.0 are the usual cures"
                + (", a larger guard.spike where such gradients are normal" if spikes else "")
                + ".\n  "
                + "\n  ".join(named)
            )
        self.state.rollbacks += 1
        self.state.streak = 0
        earlier = [window for window in self.state.skipped if window[0] <= to]
        self.state.skipped = [*earlier, (to + 1, now)]
        log.warning("back to the state of step %d: steps %d to %d are skipped", to, to + 1, now)

    def forget_after(self, step: int) -> None:
        """Drop from skipped.jsonl what came after the checkpoint that training is taken up from."""
        if _rank() == 0 and storage.exists(self._log_uri):
            lines = storage.read_bytes(self._log_uri).splitlines(keepends=True)
            whole = [line for line in lines if line.endswith(b"\n")]
            kept = [line for line in whole if json.loads(line)["step"] <= step]
            storage.write_bytes(self._log_uri, b"".join(kept))

    def _reason(self, norm: float) -> str | None:
        if not math.isfinite(norm):
            return "not finite"
        if norm > self.skip_above:
            return f"spike, {norm / statistics.median(self.state.norms):.1f} times the median"
        return None

    def _count(self, step: int, reason: str, norm: float, met: list[dict[str, Any]]) -> None:
        self.state.streak += 1
        self.state.skipped.append((step, step))
        if _rank() == 0:
            # Of numbers that JSON does not know, the name.
            lines = [{"step": step, "reason": reason, "norm": str(norm)} | culprit for culprit in met]
            storage.append_bytes(self._log_uri, "".join(json.dumps(line) + "\n" for line in lines).encode())
        for culprit in met[:4]:
            named = ", ".join(str(sample) for sample in culprit["samples"][:NAMED_SAMPLES])
            more = len(culprit["samples"]) - NAMED_SAMPLES
            self._last.append(
                f"step {step}, rank {culprit['rank']}: loss {culprit['loss']}, gradient norm {norm:g} "
                f"({reason}), samples {named}" + (f" and {more} more" if more > 0 else "")
            )
            log.warning("bad step: %s", self._last[-1])


def _gather(own: list[tuple[float, list[int]]]) -> list[dict[str, Any]]:
    """Every rank's micro-batches of this step, on all ranks."""
    ranks: list[Any] = [own]
    if dist.is_initialized():
        ranks = [None] * dist.get_world_size()
        dist.all_gather_object(ranks, own)
    return [
        {"rank": rank, "loss": str(loss), "samples": samples}
        for rank, batches in enumerate(ranks)
        for loss, samples in batches
    ]


def _culprits(met: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [batch for batch in met if not math.isfinite(float(batch["loss"]))]


def _plain(samples: Any) -> list[int]:
    return [int(sample) for sample in samples]


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0
