"""The ways to make a global batch on a number of GPUs, the memory that each takes, and the one to take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from mae_dist.config.workers import divisors
from mae_dist.orchestrate.sizing.memory import Memory, peak_memory
from mae_dist.orchestrate.sizing.states import Spread
from mae_dist.orchestrate.sizing.tasks import step_activations, trained_parameters
from mae_dist.train.training import Training

RESERVED_BYTES = 2e9
"""Of CUDA's context and of the workspaces of NCCL and cuBLAS: assumed."""
USABLE = 0.95
"""Share of a GPU's memory that can be filled before gaps between allocations stop it: assumed."""
STAGES = (0, 1, 2, 3)


def usable_bytes(memory_gb: float) -> float:
    """What a step may take of a GPU with so many 10^9 bytes."""
    return USABLE * 1e9 * memory_gb - RESERVED_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One way to make the global batch."""

    stage: int
    micro_batch: int
    accumulation: int
    checkpointing: bool
    memory: Memory
    peak_bytes: int
    fits: bool


def choices_of(training: Training, *, gpus: int, is_half: bool, usable: float) -> Iterator[Choice]:
    """All ways in which `gpus` make the global batch; none if they do not divide it.

    `is_half` says that products are in bf16 or fp16, `usable` how many bytes of a GPU can be filled.
    """
    train, resources, its = training.train, training.config.resources, training.config.input
    if train.global_batch % gpus:
        return
    is_probe = training.protocol is not None and training.protocol.protocol == "linear_probe"
    stages = STAGES if resources.engine == "deepspeed" and not is_probe else (0,)
    if train.compile:  # does not go with stage 3
        stages = stages[:3]
    trained = trained_parameters(training)
    for checkpointing in (False,) if is_probe else (False, True):
        activations = step_activations(training, is_half=is_half, recompute=checkpointing)
        for stage, micro_batch in product(stages, divisors(train.global_batch // gpus)):
            if micro_batch % train.repeats:
                continue
            accumulation = train.global_batch // (gpus * micro_batch)
            memory = peak_memory(
                trained,
                activations,
                Spread(
                    stage=stage,
                    world=gpus,
                    optimizer=train.optim.kind,
                    averages=train.ema is not None,
                    is_half=is_half,
                ),
                micro_batch=micro_batch,
                accumulation=accumulation,
                sample_pixel_bytes=its.frames * its.height * its.width * 3,
                recompute=checkpointing,
            )
            yield Choice(
                stage=stage,
                micro_batch=micro_batch,
                accumulation=accumulation,
                checkpointing=checkpointing,
                memory=memory,
                peak_bytes=memory.total,
                fits=memory.total <= usable,
            )


def best(choices: Iterable[Choice], *, own_stage: int) -> Choice | None:
    """The one to take of those that fit, None if none does.

    No activation computed twice if that can be, then the recipe's stage or the next one that fits, then the
    largest micro-batch.
    """
    return min(
        (choice for choice in choices if choice.fits),
        key=lambda choice: (
            choice.checkpointing,
            (choice.stage - own_stage) % len(STAGES),
            -choice.micro_batch,
        ),
        default=None,
    )
