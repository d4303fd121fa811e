"""Starting one training on the cluster through Ray Train."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Any, cast

from ray.data import Dataset
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from mae_dist import storage
from mae_dist.data.batch import num_blocks
from mae_dist.data.catalog import Catalog
from mae_dist.data.plan import OrderedSplit, plan_blocks
from mae_dist.train import checkpoint
from mae_dist.train.training import Training
from mae_dist.train.worker import train_worker

TRAIN_SETTINGS = {
    # A dead worker is noticed within half a second instead of two.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # It would only log that it is there; checkpoints do not wait for it.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


class TrainingError(RuntimeError):
    """A training ended without a result; carries the first cause."""


def run_training(training: Training, *, use_gpu: bool) -> dict[str, Any]:
    """Train, from the newest checkpoint if there is one, and return rank 0's summary.

    Worker groups that die are started again up to `resources.max_failures` times, each from the newest
    checkpoint. Raises TrainingError after that.
    """
    for name, value in TRAIN_SETTINGS.items():
        os.environ.setdefault(name, value)
    resources = training.config.resources
    ray_folder = storage.join(training.output, "ray")
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"training": training},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=training.workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": resources.cpus_per_worker} | ({"GPU": 1} if use_gpu else {}),
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex[:8],
            storage_path=ray_folder if "://" in ray_folder else os.path.abspath(ray_folder),
            failure_config=FailureConfig(max_failures=resources.max_failures),
        ),
        datasets=cast(Any, _datasets(training)),
        dataset_config=OrderedSplit(),
    )
    result = trainer.fit()
    if result.error is not None:
        raise TrainingError(str(result.error)) from result.error
    # Ray keeps its own bookkeeping there; ours is in the checkpoints and the logs.
    storage.delete_tree(ray_folder)
    assert result.return_value is not None
    return result.return_value


def _datasets(training: Training) -> dict[str, Callable[[], Dataset]]:
    """Plans, made anew for each worker group so that they begin where its checkpoint ends."""
    data = training.config.data

    def train_plan() -> Dataset:
        catalog = training.training_samples()
        step = checkpoint.newest(training.checkpoints) or 0
        first = training.first_block(step)
        last = training.first_block(training.schedule(catalog).total_steps)
        return plan_blocks(
            training.stream(),
            catalog,
            first_block=first,
            num_blocks=last - first,
            cpus_per_task=data.cpus_per_task,
            resource=data.decode_resource,
        )

    def test_plan() -> Dataset:
        assert training.test_catalog is not None
        spec = training.test_stream()
        catalog = Catalog.load(training.test_catalog)
        return plan_blocks(
            spec,
            catalog,
            first_block=0,
            num_blocks=num_blocks(catalog, spec),
            cpus_per_task=data.cpus_per_task,
            resource=data.decode_resource,
        )

    return {"train": train_plan} | ({"test": test_plan} if training.protocol is not None else {})
