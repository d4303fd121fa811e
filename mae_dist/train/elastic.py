"""When Ray Train starts a group of workers anew, and how many it starts.

    nodes went      the group fails -> as many workers as now fit and divide the global batch, at once
    nodes came      the group is asked to save and stop, and `run_training` starts another one
    others start    the same, where the runner of the job leaves less room than the group has taken
    it failed       again, unless it has failed too often without a new checkpoint
    it starts       in processes that were kept ready, which import torch while the stream is being started

Ray's policies do most of this; what they lack is added below. Ray 2.60 has no public way to give a trainer
others: `RegroupingTrainer` hands ours to the controller where Ray's trainer hands over its own.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ray
from ray._private.state import state
from ray.exceptions import RayError
from ray.train import FailureConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)

from mae_dist.storage import StorageError
from mae_dist.train import checkpoint
from mae_dist.train.notices import growth_limit
from mae_dist.train.spares import Spares
from mae_dist.train.stopping import ask_this_process
from mae_dist.train.training import Training

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
ANSWER_SECONDS = 5.0


class RegroupingTrainer(TorchTrainer):
    """Ray's trainer with the policies of this file."""

    def __init__(self, *args: Any, training: Training, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._training = training

    def _initialize_and_run_controller(self, **given: Any) -> Any:
        training = self._training
        assert self.run_config.failure_config is not None
        given["failure_policy"] = FailuresInARow(self.run_config.failure_config, training.checkpoints)
        if self.scaling_config.elasticity_enabled:
            given["scaling_policy"] = DividingSizes(
                self.scaling_config,
                sizes=training.world_sizes,
                decode_cpus=training.config.data.cpus_per_task,
                output=training.output,
            )
        given["callbacks"] = [ImportsAhead(training), Spares(), *given["callbacks"]]
        return super()._initialize_and_run_controller(**given)


class ImportsAhead(WorkerGroupCallback):
    """Lets the processes of a new group import what they will need while Ray Data starts its own.

    Ray would wait for those first, and for the imports after that: seconds of every restart.
    """

    def __init__(self, training: Training) -> None:
        self._modules = ["mae_dist.train.worker", *(["mae_dist.train.zero"] if training.uses_zero else [])]

    def before_init_train_context(self, workers: Sequence[Any]) -> dict[str, list[Any]]:
        """Ask for the imports and wait for none; what goes wrong is met again where a module is used."""
        for worker in workers:
            worker.actor.execute.remote(import_all, self._modules)
        return {}


def import_all(modules: Sequence[str]) -> None:
    """Import these modules into this process."""
    for module in modules:
        importlib.import_module(module)


class DividingSizes(ElasticScalingPolicy):
    """The largest of `sizes` that fits beside a decode task of `decode_cpus` CPUs and beside other steps.

    Ray would take any number in the range, also one that leaves no CPU to decode for it. What other steps
    leave is told to the training in the folder `output`, see notices.py.
    """

    def __init__(
        self, scaling_config: ScalingConfig, *, sizes: Sequence[int], decode_cpus: float, output: str
    ) -> None:
        super().__init__(scaling_config)
        self._all_sizes, self._decode_cpus, self._output = tuple(sizes), decode_cpus, output
        self._looked = self._listened = float("-inf")
        self._most: int | None = None
        self._asked_for = 0

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """As Ray does, with a rest where nothing can be started: its controller would ask again at once."""
        self._listen()
        decision = super().make_decision_for_non_running_worker_group()
        if isinstance(decision, NoopDecision):
            time.sleep(POLL_SECONDS)
        return decision

    def make_decision_for_running_worker_group(
        self, worker_group_state: Any, worker_group_status: Any
    ) -> ScalingDecision:
        """Ask a group that could or should have another size to save and stop.

        Ray would end it and lose its last steps. One that has to shrink because nodes went is about to fail
        by itself.
        """
        decision = super().make_decision_for_running_worker_group(worker_group_state, worker_group_status)
        now = worker_group_state.num_workers
        if isinstance(decision, ResizeDecision) and decision.num_workers > now:
            log.info("room for %d workers instead of %d; asking them to save", decision.num_workers, now)
            self._ask(worker_group_state)
        elif self._listen() and now > max(self._sizes, default=now):
            log.info("others need the room of some of %d workers; asking them to save", now)
            self._ask(worker_group_state)
        return NoopDecision()

    @property
    def _sizes(self) -> list[int]:
        return [size for size in self._all_sizes if self._most is None or size <= self._most]

    def _listen(self) -> bool:
        """Note how many workers are left to this training; False if that was done a moment ago."""
        if time.monotonic() < self._listened + POLL_SECONDS:
            return False
        self._listened = time.monotonic()
        growth = growth_limit(self._output)
        self._most = None if growth is None else self.scaling_config.min_workers + growth
        return True

    def _ask(self, group: Any) -> None:
        for worker in group.workers:
            worker.execute_async(ask_this_process)

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        reserved = super()._count_possible_workers(reserved_resources)
        return self._largest(size for size in self._sizes if size <= reserved)

    def _get_num_workers_for_resource_request(self) -> int:
        # What is asked for is kept from decoding, used or not, and is what a cluster that scales by itself
        # grows to. GPUs are no loss to decoding.
        if self.scaling_config.use_gpu:
            most = self.scaling_config.max_workers
            return most if self._most is None else min(most, self._most)
        return self._largest(self._sizes) or self.scaling_config.min_workers

    def _maybe_send_resource_request(self) -> None:
        number = self._get_num_workers_for_resource_request()
        if number == self._asked_for:
            super()._maybe_send_resource_request()
        else:
            self._asked_for = number
            self._send_resource_request()

    def _largest(self, sizes: Iterable[int]) -> int:
        # Nothing is started any more on nodes that are about to go.
        leaving = state.get_draining_nodes()
        nodes = [n["Resources"] for n in ray.nodes() if n["Alive"] and n["NodeID"] not in leaving]
        each: dict[str, Any] = self.scaling_config._resources_per_worker_not_none
        return largest_size(sizes, nodes, each=each, decode_cpus=self._decode_cpus)

    def _get_reserved_resources(self) -> Any:
        # Ray's view of the nodes is up to 20 s old, and a group on a node that is gone is waited for in vain.
        if time.monotonic() - self._looked >= self.GET_RESERVED_RESOURCES_INTERVAL_S:
            self._looked = time.monotonic()
            look = self._autoscaling_coordinator.get_reserved_resources.remote(
                self._requester_id, recompute=True
            )
            try:
                ray.get(look, timeout=ANSWER_SECONDS)
            except RayError as error:
                log.warning("no fresh view of the nodes: %s", error)
        return super()._get_reserved_resources()


class FailuresInARow(DefaultFailurePolicy):
    """Gives up after so many failures without a new checkpoint between them.

    Nodes of a long training come and go; a limit on all failures together would end it however well it goes.
    """

    def __init__(self, failure_config: FailureConfig, checkpoints: str) -> None:
        super().__init__(failure_config)
        self._checkpoints = checkpoints
        self._reached = self._newest()

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        """Whether to start another group."""
        reached = self._newest()
        if reached != self._reached:
            self._reached, self._worker_group_failures = reached, 0
        return super().make_decision(training_failed_error)

    def _newest(self) -> int | None:
        try:
            return checkpoint.newest(self._checkpoints)
        except StorageError as error:  # no progress that could be seen
            log.warning("cannot look for checkpoints: %s", error)
            return None


def largest_size(
    sizes: Iterable[int],
    nodes: Sequence[Mapping[str, float]],
    *,
    each: Mapping[str, float],
    decode_cpus: float,
) -> int:
    """The largest of `sizes` whose workers, of `each` resources, fit on the nodes and leave room to decode.

    0 if there is none. Ray Data is given what is left of a node in whole CPUs.
    """
    return max((size for size in sizes if _fits(size, nodes, each, decode_cpus)), default=0)


def _fits(
    size: int, nodes: Sequence[Mapping[str, float]], each: Mapping[str, float], decode_cpus: float
) -> bool:
    spare_cpus, placed = 0, 0
    for node in nodes:
        room = min(int(node.get(name, 0) / amount + 1e-6) for name, amount in each.items() if amount)
        taken = min(room, size - placed)
        placed += taken
        spare_cpus += int(node.get("CPU", 0) - taken * each.get("CPU", 0) + 1e-6)
    return placed == size and spare_cpus >= max(1, decode_cpus)
