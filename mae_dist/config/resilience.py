"""What a run does so that an interruption, or a batch that goes wrong, costs little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from mae_dist.config.duration import Duration
from mae_dist.config.quantities import Count, Length, Positive, Seconds, Share

DriftName = Literal["precision", "decoder", "guard", "torch", "numpy", "timm", "pillow", "av", "deepspeed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """When training state is saved, how much of it is kept, and what may differ when it is taken up again."""

    every: Length = Duration(1, "epochs")
    keep: Positive = 2
    """Newest complete checkpoints kept; older ones are deleted ..."""
    keep_every: Length | None = None
    """... but for the first one of every such length; null: no others are kept."""
    allow_drift: tuple[DriftName, ...] = ()
    """What may differ from the run that wrote a checkpoint and still go on from it: versions of libraries,
    the precision that "auto" comes to, the decoder, the guard."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardConfig:
    """When a step counts as bad, and what follows.

    A loss or a gradient that is no finite number is never applied: the step is skipped on all workers, which
    leave weights, optimiser and averages as they were, and its samples are written to skipped.jsonl.
    """

    patience: Positive = 3
    """So many bad steps in a row are blamed on the weights: training goes back to the last good checkpoint
    and passes over the steps since then."""
    rollbacks: Count = 2
    """How often that may happen before the run stops."""
    spike: Annotated[float, Field(gt=1)] | None = None
    """A finite gradient norm above so many times the median of the last hundred good ones makes a step bad
    too, from the twentieth good step on; it is skipped like the others. Null: none is too large."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchConfig:
    """How long a worker may wait for anything: for other workers, for data, for storage.

    After that the stacks of all workers are written to stacks/ in the run directory, and training starts
    again from the newest checkpoint; resources.max_failures counts it.
    """

    step_seconds: Seconds = 600.0
    """From one finished step, or batch of a test, to the next. Saving and logging happen meanwhile."""
    first_step_seconds: Seconds = 1800.0
    """From the start of a worker to its first finished step, torch.compile included."""

    @property
    def collective_seconds(self) -> float:
        """For collective operations, which the deadlines above end first: first_step_seconds + 60."""
        return self.first_step_seconds + 60

    @property
    def silent_seconds(self) -> float:
        """For a worker that does not answer even Ray, where no other can end it: step_seconds + 5."""
        return self.step_seconds + 5

    def __post_init__(self) -> None:
        if self.first_step_seconds < self.step_seconds:
            raise ValueError(
                "first_step_seconds is for a step with all that goes before it, so it must be at least "
                f"step_seconds={self.step_seconds:g}, got {self.first_step_seconds:g}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultBudget:
    """How many samples may turn out unreadable before a run stops."""

    share: Share = 0.01
    """Of the samples seen so far ..."""
    at_least: Count = 10
    """... but this many are always allowed."""
