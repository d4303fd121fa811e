"""Mistakes about engines: settings that one does not have or that do not go together.

See `contradictions.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from mae_dist.config.optimisation import ResourcesConfig, TrainConfig
from mae_dist.config.schema import EvaluationConfig, RunConfig


def engine_settings(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Stages and offloading are DeepSpeed's; weights are offloaded where they are partitioned."""
    resources = config.resources
    if resources.engine == "torch" and resources.zero_stage > 1:
        yield (
            "resources.zero_stage",
            f"is not used by the torch engine, got {resources.zero_stage}; 0, or resources.engine deepspeed",
        )
    if resources.offload == "parameters" and resources.zero_stage != 3:
        yield (
            "resources.offload",
            f"parameters needs resources.zero_stage 3, got {resources.zero_stage}; optimizer would do",
        )
    elif resources.offload == "optimizer" and (resources.engine == "torch" or resources.zero_stage == 0):
        yield (
            "resources.offload",
            "optimizer needs resources.engine deepspeed and zero_stage 1, 2 or 3, got "
            f"{resources.engine} and {resources.zero_stage}; none would do",
        )


def train_settings(resources: ResourcesConfig, train: TrainConfig) -> Iterator[tuple[str, str]]:
    """An average that moves, and a compiler that sees the weights."""
    if train.ema is not None and not 0 < train.ema < 1:
        yield "train.ema", f"must lie in (0, 1), or be null for none, got {train.ema}"
    if train.compile and resources.engine == "deepspeed" and resources.zero_stage == 3:
        yield (
            "train.compile",
            "does not go with resources.zero_stage 3, which gathers weights between any two layers; "
            "false, or zero_stage 1 or 2",
        )


def probe_settings(_: RunConfig, evaluation: EvaluationConfig) -> Iterator[tuple[str, str]]:
    """A frozen encoder keeps nothing for a backward pass."""
    if evaluation.protocol == "linear_probe" and evaluation.training.activation_checkpointing:
        yield (
            "train.activation_checkpointing",
            "is not used by linear_probe, whose encoder is frozen, got true; false, or protocol finetune",
        )
