"""The stream that workers receive: the same for any number of them, and from any step."""

from __future__ import annotations

import pytest

from mae_dist.config.geometry import Grid
from mae_dist.config.schema import AugmentConfig, InputConfig, MaskConfig
from mae_dist.data.batch import StreamSpec
from mae_dist.data.sources import make_source

pytestmark = pytest.mark.slow

MICRO_BATCH = 2
GLOBAL_BATCH = 8
STEPS = 5


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("clips"))
    return make_source("drawn://moving_clips?samples=13&seed=0", work_folder=folder)


def spec() -> StreamSpec:
    return StreamSpec(
        seed=3,
        micro_batch=MICRO_BATCH,
        input=InputConfig(frames=4, frame_stride=2, height=32, width=32),
        augment=AugmentConfig(crop="multi_scale", flip=True),
        mask=MaskConfig(kind="tube", ratio=0.75),
        grid=Grid(frames=2, rows=4, columns=4),
        train=True,
    )


def ledger(catalog, *, world: int, first_step: int) -> list[list[tuple]]:
    """Per global batch: block, sample ids and digest of every micro-batch, as the ranks received them."""
    import ray

    from mae_dist.data.plan import OrderedSplit, plan_blocks, read_shard
    from mae_dist.train.feed import digest

    blocks_per_step = GLOBAL_BATCH // MICRO_BATCH
    dataset = plan_blocks(
        spec(),
        catalog,
        first_block=first_step * blocks_per_step,
        num_blocks=(STEPS - first_step) * blocks_per_step,
        cpus_per_task=1.0,
    )

    @ray.remote(num_cpus=0)
    def consume(shard):
        rows = read_shard(shard, prefetch=1)
        return [(row["block"], tuple(row["sample"].tolist()), digest(row)) for row in rows]

    shards = OrderedSplit().configure({"train": dataset}, world, None, None)
    received = ray.get([consume.remote(shard["train"]) for shard in shards])
    steps = []
    for step in range(STEPS - first_step):
        accumulation = blocks_per_step // world
        part = slice(step * accumulation, (step + 1) * accumulation)
        steps.append(sorted(row for rows in received for row in rows[part]))
    return steps


@pytest.fixture(scope="module")
def one_worker(ray_cluster, catalog):
    return ledger(catalog, world=1, first_step=0)


def test_one_worker_receives_every_block_in_order(one_worker):
    assert [row[0] for step in one_worker for row in step] == list(range(STEPS * GLOBAL_BATCH // MICRO_BATCH))


@pytest.mark.parametrize("world", [2, 4])
def test_any_number_of_workers_receives_the_same_global_batches(world, one_worker, catalog):
    """Sample ids, pixels and masks, step by step."""
    assert ledger(catalog, world=world, first_step=0) == one_worker


@pytest.mark.parametrize(("world", "first_step"), [(1, 2), (2, 3)])
def test_a_stream_that_begins_later_is_the_rest_of_the_stream(world, first_step, one_worker, catalog):
    assert ledger(catalog, world=world, first_step=first_step) == one_worker[first_step:]


def test_a_long_plan_starts_without_making_all_its_tasks(ray_cluster, catalog):
    """Ten million blocks: the plan holds a thousand segment numbers, and the first block comes at once."""
    from mae_dist.data.plan import OrderedSplit, plan_blocks, read_shard

    dataset = plan_blocks(spec(), catalog, first_block=0, num_blocks=10_000_000, cpus_per_task=1.0)
    (shard,) = OrderedSplit().configure({"train": dataset}, 1, None, None)
    assert next(read_shard(shard["train"], prefetch=1))["block"] == 0


def test_the_scheduling_loop_rests_longer_and_longer_until_a_step_had_to_wait(monkeypatch):
    from mae_dist.data import plan

    class Clock:
        def __init__(self) -> None:
            self.now = 0.0
            self.rests: list[float] = []

        def perf_counter(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            self.rests.append(seconds)

    clock = Clock()
    monkeypatch.setattr(plan, "time", clock)
    loop = plan.UnhurriedScheduling()
    for step_seconds in [0.001] * 7 + [0.1] + [0.001]:
        clock.now += step_seconds
        loop.on_execution_step(None)
    longest = loop.LONGEST_REST_SECONDS
    assert clock.rests == [0.0005, 0.001, 0.002, 0.004, 0.008, longest, longest, 0.0005]
