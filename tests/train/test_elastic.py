"""How many workers are started on which nodes, and when a training that goes on failing is given up."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import FailureConfig, ScalingConfig
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy, NoopDecision
from ray.train.v2.api.exceptions import WorkerGroupError

from mae_dist.config.load import load
from mae_dist.train import elastic
from mae_dist.train.checkpoint import Checkpointer, Progress
from mae_dist.train.elastic import DividingSizes, FailuresInARow, ImportsAhead, import_all, largest_size
from mae_dist.train.stopping import Request, StopRequest, ask_this_process
from mae_dist.train.training import Training
from tests.train.engines import make_engine

SIZES = [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("nodes", "decode_cpus", "size"),
    [
        pytest.param([{"CPU": 9}], 1, 8, id="one CPU is left to decode on"),
        pytest.param([{"CPU": 8}], 1, 4, id="all CPUs for workers would leave none"),
        pytest.param([{"CPU": 8}], 6, 2, id="a decode task may need several"),
        pytest.param([{"CPU": 4}, {"CPU": 2}], 0.5, 4, id="six would fit and do not divide the batch"),
        pytest.param([{"CPU": 1.5}], 0.5, 0, id="half a CPU is never given to decoding"),
        pytest.param([{"CPU": 1}, {"memory": 5}], 1, 0, id="not even one fits"),
        pytest.param([{}, {"CPU": 3}], 0.25, 2, id="a head without CPUs takes none"),
    ],
)
def test_the_largest_size_is_taken_that_divides_the_batch_and_leaves_room_to_decode(nodes, decode_cpus, size):
    assert largest_size(SIZES, nodes, each={"CPU": 1}, decode_cpus=decode_cpus) == size


def test_workers_with_gpus_fit_where_gpus_are_and_decode_where_cpus_are():
    nodes = [{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 2}, {"CPU": 32}]
    assert largest_size(SIZES, nodes, each={"CPU": 2, "GPU": 1}, decode_cpus=1) == 4
    assert largest_size(SIZES, nodes[:1], each={"CPU": 2, "GPU": 1}, decode_cpus=1) == 2


def save(folder: str, step: int) -> None:
    saver = Checkpointer(folder, rank=0, world=1, attempt=f"attempt{step}", keep=9)
    saver.save(make_engine("torch"), Progress(step=step, samples=8 * step))
    saver.wait()


def test_only_failures_without_a_new_checkpoint_between_them_use_up_the_limit(tmp_path):
    policy = FailuresInARow(FailureConfig(max_failures=1), str(tmp_path))
    error = WorkerGroupError("lost", {0: RuntimeError("lost")})
    assert policy.make_decision(error) == FailureDecision.RETRY
    for step in (3, 6):
        save(str(tmp_path), step)
        assert policy.make_decision(error) == FailureDecision.RETRY
    assert policy.make_decision(error) == FailureDecision.RAISE


def test_a_training_can_be_asked_to_stop_from_outside_its_thread():
    stop = StopRequest()
    ask_this_process()
    assert stop.agreed() == Request.NONE
    with stop.listening():
        ask_this_process()
    assert stop.agreed() == Request.MOVE


@pytest.mark.parametrize(
    ("growth", "asked"),
    [
        pytest.param(None, [], id="nobody needs room"),
        pytest.param(3, [], id="others leave what it has"),
        pytest.param(2, [ask_this_process] * 4, id="others need the room of one of four"),
        pytest.param(0, [ask_this_process] * 4, id="others need all that it has grown into"),
    ],
)
def test_workers_save_and_stop_when_other_steps_need_their_room(monkeypatch, growth, asked):
    executed: list[Any] = []
    workers = [SimpleNamespace(execute_async=executed.append)] * 4
    policy = DividingSizes(ScalingConfig(num_workers=(1, 8)), sizes=SIZES, decode_cpus=1, output="s3://b/run")
    monkeypatch.setattr(elastic, "growth_limit", {"s3://b/run": growth}.__getitem__)
    monkeypatch.setattr(
        ElasticScalingPolicy, "make_decision_for_running_worker_group", lambda *_: NoopDecision()
    )
    group: Any = SimpleNamespace(num_workers=4, workers=workers)
    for _ in range(3):  # asked once a second at most
        assert isinstance(policy.make_decision_for_running_worker_group(group, None), NoopDecision)
    assert executed == asked


@pytest.mark.parametrize(("growth", "size"), [(None, 8), (6, 4), (1, 2), (0, 1)])
def test_a_new_group_takes_no_more_workers_than_other_steps_leave(monkeypatch, growth, size):
    policy = DividingSizes(ScalingConfig(num_workers=(1, 8)), sizes=SIZES, decode_cpus=1, output="run")
    monkeypatch.setattr(elastic, "growth_limit", lambda output: growth)
    # The cluster itself has room for all of them.
    monkeypatch.setattr(ElasticScalingPolicy, "_count_possible_workers", lambda *_: 8)
    monkeypatch.setattr(DividingSizes, "_largest", lambda self, sizes: max(sizes))
    monkeypatch.setattr(
        ElasticScalingPolicy,
        "make_decision_for_non_running_worker_group",
        lambda self: self._count_possible_workers({}),
    )
    assert policy.make_decision_for_non_running_worker_group() == size


@pytest.mark.parametrize(("growth", "asked"), [(None, 8), (9, 8), (1, 2)])
def test_no_gpu_is_kept_for_workers_that_other_steps_leave_no_room_for(monkeypatch, growth, asked):
    gpus = ScalingConfig(num_workers=(1, 8), use_gpu=True)
    policy = DividingSizes(gpus, sizes=SIZES, decode_cpus=1, output="run")
    monkeypatch.setattr(elastic, "growth_limit", lambda output: growth)
    monkeypatch.setattr(
        ElasticScalingPolicy,
        "make_decision_for_non_running_worker_group",
        lambda self: self._get_num_workers_for_resource_request(),
    )
    assert policy.make_decision_for_non_running_worker_group() == asked


class Imports:
    """A worker's actor that notes what it is asked to import."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.execute = SimpleNamespace(remote=self._ask)

    def _ask(self, function: Any, modules: list[str]) -> None:
        assert function is import_all
        self.asked += modules


@pytest.mark.parametrize(
    ("settings", "evaluation", "has_zero"),
    [
        pytest.param([], None, True, id="DeepSpeed"),
        pytest.param(["resources.engine=torch"], None, False, id="plain torch"),
        pytest.param([], "linear_probe", False, id="a probe"),
    ],
)
def test_every_new_worker_imports_early_what_its_training_uses(settings, evaluation, has_zero):
    config = load("pretrain/demo", settings)
    training = Training(config=config, output="run", catalog="catalog.parquet", evaluation=evaluation)
    actors = [Imports(), Imports()]
    workers = [SimpleNamespace(actor=actor) for actor in actors]
    assert ImportsAhead(training).before_init_train_context(workers) == {}
    for actor in actors:
        assert actor.asked[0] == "mae_dist.train.worker"
        assert ("mae_dist.train.zero" in actor.asked) is has_zero


def test_imports_ahead_are_imports():
    import_all(["mae_dist.train.worker"])
    assert "mae_dist.train.worker" in sys.modules
