"""A resource that the nodes do not carry is named while steps wait for it, and no more often than helps."""

from __future__ import annotations

from mae_dist.orchestrate.shortage import PATIENCE_SECONDS, REPEAT_SECONDS, ShortageWatch
from mae_dist.orchestrate.step import Demand, Step

TOTAL = {"CPU": 8.0, "decode": 0.5}


def step(name: str, *, gpus: float = 0, **custom: float) -> Step:
    demand = Demand(gpus=gpus, custom=custom)
    return Step(name=name, run=lambda *_: {}, config=None, identity=name, output=name, demand=demand)


PLAIN, PRETRAIN, PROBE = step("report"), step("pretrain", decode=1.0), step("probe", decode=1.0)


def test_a_shortage_that_lasts_is_named_and_named_again():
    watch = ShortageWatch()
    said = [watch.look([PLAIN, PRETRAIN, PROBE], TOTAL, now) for now in (0.0, PATIENCE_SECONDS - 1)]
    assert said == [[], []]
    [warning] = watch.look([PLAIN, PRETRAIN, PROBE], TOTAL, PATIENCE_SECONDS)
    assert warning.startswith(
        "pretrain, probe cannot go on: no node of the cluster carries the resource 'decode', which decoding "
        "waits for; it has 8 CPU, 0.5 decode. Add such a node (ray start --resources='{\"decode\": 8}' ...), "
    )
    assert watch.look([PRETRAIN], TOTAL, PATIENCE_SECONDS + 1) == []
    assert len(watch.look([PRETRAIN], TOTAL, PATIENCE_SECONDS + REPEAT_SECONDS)) == 1


def test_a_node_that_comes_in_time_ends_the_matter():
    watch = ShortageWatch()
    watch.look([PRETRAIN], TOTAL, 0.0)
    assert watch.look([PRETRAIN], {"decode": 8.0}, PATIENCE_SECONDS) == []
    assert watch.look([PRETRAIN], TOTAL, PATIENCE_SECONDS + 1) == []


def test_steps_that_ask_for_nothing_special_wait_for_nothing():
    watch = ShortageWatch()
    assert [watch.look([PLAIN], TOTAL, now) for now in (0.0, 1e9)] == [[], []]


def test_a_cluster_that_has_become_too_small_is_named_with_what_is_missing():
    watch = ShortageWatch()
    steps = [PLAIN, step("pretrain", gpus=2)]
    watch.look(steps, TOTAL | {"GPU": 1.0}, 0.0)
    assert watch.look(steps, TOTAL | {"GPU": 1.0}, PATIENCE_SECONDS) == [
        "pretrain cannot go on: 2 GPU are needed at least, and the cluster has 1. Training goes on by itself "
        "when nodes come; fewer resources.workers (of a range the least) need fewer"
    ]
