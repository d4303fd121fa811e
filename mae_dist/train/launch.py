"""Starting one training on the cluster through Ray Train."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable
from typing import Any, cast

from ray.data import Dataset
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig

from mae_dist import storage
from mae_dist.data.plan import OrderedSplit, plan_blocks
from mae_dist.train import checkpoint
from mae_dist.train.elastic import RegroupingTrainer
from mae_dist.train.stopping import Request, StoppedError, catch_sigterm
from mae_dist.train.training import Training
from mae_dist.train.worker import train_worker

TRAIN_SETTINGS = {
    # A dead worker is noticed within a quarter of a second instead of two.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",
    # How long a group waits for room before the nodes are looked at again, where one may just have gone. The
    # workers are started afterwards and have all the time they need.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "4",
    # Our own NoticeReader saves and moves; this one would only log that it is there.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}

log = logging.getLogger(__name__)


class TrainingError(RuntimeError):
    """A training ended without a result; raised from the first cause."""


class HungError(TrainingError):
    """A training ended without a result, and workers of it had stood still; says where their stacks are."""


class _ListeningBackend(TorchConfig().backend_cls):
    """The process group, and SIGTERM caught by the worker's main thread, where Ray runs what it executes."""

    def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
        super().on_training_start(worker_group, backend_config)
        worker_group.execute(catch_sigterm)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Nothing: Ray ends the processes next, and one that stands still would make it wait for long."""


class ListeningTorchConfig(TorchConfig):
    """Torch as Ray Train sets it up, in workers that take a SIGTERM for a request."""

    @property
    def backend_cls(self) -> type:
        return _ListeningBackend


def run_training(training: Training, *, use_gpu: bool) -> dict[str, Any]:
    """Train, from the newest checkpoint if there is one, and return rank 0's summary.

    Worker groups that die are started again from the newest checkpoint, and with a range of workers groups
    grow and shrink with the cluster, see `elastic.py`. Raises TrainingError after `resources.max_failures`
    failures without a new checkpoint between them, HungError if workers had stood still. Workers that were
    asked to make room save and start again, which does not count; StoppedError if the whole job was asked to
    stop.
    """
    environment = TRAIN_SETTINGS | {
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": f"{training.config.watch.silent_seconds:g}"
    }
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    while True:
        summary = _fit(training, use_gpu=use_gpu)
        if "stopped" not in summary:
            # Ray keeps its own bookkeeping there; ours is in the checkpoints and the logs.
            storage.delete_tree(_ray_folder(training))
            return summary
        if summary["request"] == Request.END:
            raise StoppedError(f"{summary['stopped']}; the same command goes on from there", Request.END)
        log.warning("%s; starting again", summary["stopped"])


def _ray_folder(training: Training) -> str:
    return storage.join(training.output, "ray")


def _fit(training: Training, *, use_gpu: bool) -> dict[str, Any]:
    """What rank 0 returned; errors as run_training."""
    resources, watch, folder = training.config.resources, training.config.watch, _ray_folder(training)
    workers = training.workers
    trainer = RegroupingTrainer(
        train_worker,
        training=training,
        train_loop_config={"training": training},
        torch_config=ListeningTorchConfig(
            backend="nccl" if use_gpu else "gloo", timeout_s=int(watch.collective_seconds)
        ),
        scaling_config=ScalingConfig(
            num_workers=(workers.least, workers.most) if workers.is_elastic else workers.least,
            elastic_resize_monitor_interval_s=resources.resize_seconds,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": resources.cpus_per_worker} | ({"GPU": 1} if use_gpu else {}),
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex[:8],
            storage_path=folder if "://" in folder else os.path.abspath(folder),
            failure_config=FailureConfig(max_failures=resources.max_failures),
        ),
        datasets=cast(Any, _datasets(training)),
        dataset_config=OrderedSplit(),
    )
    num_stacks = len(storage.list_dir(training.stacks))
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        if len(storage.list_dir(training.stacks)) > num_stacks:
            # Ray knows only that a process has ended.
            raise HungError(
                f"workers stood still for longer than watch.step_seconds={watch.step_seconds:g}, more than "
                f"resources.max_failures={resources.max_failures} times; where they were: {training.stacks}"
            ) from None
        raise TrainingError(str(error)) from error
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
        return plan_blocks(
            training.test_stream(),
            training.test_samples(),
            cpus_per_task=data.cpus_per_task,
            resource=data.decode_resource,
        )

    return {"train": train_plan} | ({"test": test_plan} if training.protocol is not None else {})
