"""How the steps of a run are looked after: side by side, again after a failure, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from mae_dist.config.duration import Duration, parse_duration
from mae_dist.config.problems import shown
from mae_dist.config.quantities import Count, Positive, Seconds

Hours = Annotated[float, Field(gt=0)]


def parse_checkpoint(given: Any) -> Duration | Literal["last"]:
    """Read "last" or "every 20 epochs"; a Duration passes through. Raises ValueError on anything else."""
    if given == "last" or isinstance(given, Duration):
        return given
    try:
        return parse_duration(given.strip().removeprefix("every "))
    except (ValueError, AttributeError):
        raise ValueError(
            f'must be "last", or like "every 20 epochs" or "every 3000 steps", got {shown(given)}'
        ) from None


def plain_checkpoint(checkpoint: Duration | str) -> str:
    """As a recipe has it."""
    return f"every {checkpoint}" if isinstance(checkpoint, Duration) else checkpoint


Checkpoint = Annotated[
    Duration | Literal["last"], BeforeValidator(parse_checkpoint), PlainSerializer(plain_checkpoint)
]
Checkpoints = tuple[Checkpoint, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobsConfig:
    """What the driver of a run does with its steps: the pretraining, the evaluations, and what they need."""

    retries: Annotated[Count, Field(le=10)] = 2
    """How often a step is started again after it failed, was killed or took too long; it goes on from its
    checkpoints. An error that would only come again, as one in the settings, is not tried again."""
    backoff_seconds: Seconds = 10.0
    """Pause before a step is started again; after every further failure it is twice as long."""
    timeout_hours: Hours | None = 72.0
    """An attempt at any step but the pretraining is ended after so long; null: never."""
    pretrain_timeout_hours: Hours | None = None
    """The same for the pretraining; `watch` ends one that stands still, and null lets all others go on."""
    side_by_side: Positive = 16
    """Steps that run at the same time, at most; the cluster's CPUs and GPUs bound them too. Each has a
    process beside the driver."""
