"""Weights out of a checkpoint, without the optimiser and without a worker group."""

from __future__ import annotations

from typing import Any

from mae_dist.train import checkpoint
from mae_dist.train.engine import load_buffers, load_weights
from mae_dist.train.exporting import export
from mae_dist.train.tasks import PretrainTask
from mae_dist.train.training import Training
from mae_dist.train.worker import build_task


def export_checkpoint(training: Training, *, checkpoints: str, step: int) -> dict[str, Any]:
    """Write the weights that a pretraining had at `step` as it exports its own, into `training.output`.

    `checkpoints` is the folder of the checkpoints. Raises CheckpointError if that one is gone or damaged.
    """
    samples = training.training_samples()
    task = build_task(training, num_classes=samples.num_classes)
    assert isinstance(task, PretrainTask)
    kind = "weight" if training.train.ema is None else "ema"
    state = checkpoint.read_weights(checkpoints, step, kind=kind)
    load_weights(task, state, kind=kind)
    load_buffers(task, state)
    export(training, task, samples)
    return {"step": step}
