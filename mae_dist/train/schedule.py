"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mae_dist.config.optimisation import TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Linear warm-up from zero, then half a cosine from peak_lr to min_lr (arXiv 2111.06377, table 8)."""

    total_steps: int
    warmup_steps: int
    peak_lr: float
    min_lr: float

    def lr(self, step: int) -> float:
        """Learning rate of update number `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.peak_lr * step / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        return self.min_lr + (self.peak_lr - self.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def schedule_of(train: TrainConfig, *, samples_per_epoch: int) -> Schedule:
    """The schedule of one optimisation over a catalog of `samples_per_epoch` samples."""

    def steps(length) -> int:
        return length.steps(samples_per_epoch=samples_per_epoch, global_batch=train.global_batch)

    return Schedule(
        total_steps=max(1, steps(train.length)),
        warmup_steps=steps(train.warmup),
        peak_lr=train.peak_lr,
        min_lr=train.optim.min_lr,
    )
