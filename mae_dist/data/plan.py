"""The lazy Ray Data graph that builds micro-batches.

    segment numbers -> block numbers -> build_block -> blocks in order -> block j to rank j mod world

One block is one row and one rank's micro-batch, built by one task on any node with a free CPU. Segment
numbers come from one generator task and block numbers from one per segment, so a plan of a billion blocks
starts as fast as a small one and never holds more than the blocks that are about to be used.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
import ray
import ray.data
from ray.data import DataContext, DataIterator, Dataset, ExecutionOptions, TaskPoolStrategy
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.train import DataConfig

from mae_dist.data.batch import StreamSpec, build_block
from mae_dist.data.batch import num_blocks as blocks_of_a_pass
from mae_dist.data.mix import Samples

BLOCKS_PER_SEGMENT = 10_000


def plan_blocks(
    spec: StreamSpec,
    catalog: Samples,
    *,
    first_block: int = 0,
    num_blocks: int | None = None,
    cpus_per_task: float,
    resource: str | None = None,
    skip: Collection[int] = (),
) -> Dataset:
    """Blocks first_block .. first_block + num_blocks - 1 of the stream, lazily, one row each.

    Without `num_blocks`, all of one pass; an endless stream needs the number.
    A row holds the arrays of `build_block`, and `faults` and `stats` as JSON texts; `stats` also names the
    node. Each task reserves `cpus_per_task` CPUs and, where `resource` is given, as much of that custom one.
    Blocks in `skip` are left out; without them there has to be one at least. Order is kept only under the
    execution options that `OrderedSplit` (or `ordered`) sets.
    """
    table, skipped = ray.put(catalog), frozenset(skip)
    number = blocks_of_a_pass(catalog, spec) - first_block if num_blocks is None else num_blocks

    def wanted(start: int) -> list[int]:
        end = min(start + BLOCKS_PER_SEGMENT, number)
        blocks = range(first_block + start, first_block + end)
        return [block for block in blocks if block not in skipped]

    def segments(_: Any) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, number, BLOCKS_PER_SEGMENT):
            if wanted(start):
                yield {"start": np.array([start])}

    def expand(segments: Any) -> Iterator[dict[str, np.ndarray]]:
        (start,) = segments["start"].tolist()
        for block in wanted(start):
            yield {"block": np.array([block])}

    def build(blocks: Any) -> dict[str, Any]:
        (block,) = blocks["block"].tolist()
        columns = build_block(block, _fetched(table), spec)
        faults = [asdict(fault) for fault in columns.pop("faults")]
        stats = asdict(columns.pop("stats")) | {"node": ray.get_runtime_context().get_node_id()}
        row: dict[str, Any] = {name: array[None] for name, array in columns.items()}
        return row | {"block": np.array([block]), "faults": _text(faults), "stats": _text(stats)}

    custom = {} if resource is None else {resource: cpus_per_task}
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A block must never be merged with its neighbour: any row is larger than one byte.
    context.target_max_block_size = 1
    # Nobody reads the memory of each task, which Ray would look up from a thread per task.
    context.memory_usage_poll_interval_s = None
    if UnhurriedScheduling not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes.append(UnhurriedScheduling)
    # Both generators sleep most of the time: a CPU reserved for them would be lost to decoding (num_cpus=0).
    return (
        ray.data.from_items([{"plan": 0}])
        .map_batches(segments, batch_size=1, num_cpus=0)
        # One segment is expanded at a time; the next begins while the last one's blocks are being built. The
        # size also keeps the two from becoming one task, which would start again at 0 if its node were lost.
        .map_batches(expand, batch_size=1, num_cpus=0, compute=TaskPoolStrategy(size=1))
        .map_batches(build, batch_size=1, num_cpus=cpus_per_task, resources=custom)
    )


class UnhurriedScheduling(ExecutionCallback):
    """Lets the loop that starts tasks rest while there is nothing for it to do.

    Once every task has a block that back-pressure leaves unread, ray.wait returns at once, and the loop goes
    round without a pause: most of a CPU that decoding could have (Ray 2.60). Steps that follow each other
    quickly have rests between them, ever longer ones; a step that had to wait by itself ends that.
    """

    QUICK_SECONDS = 0.005
    SHORTEST_REST_SECONDS = 0.0005
    LONGEST_REST_SECONDS = 0.01

    def __init__(self) -> None:
        self._rest, self._began = 0.0, time.perf_counter()

    def on_execution_step(self, executor: Any) -> None:
        """Called by Ray after each step."""
        if time.perf_counter() - self._began < self.QUICK_SECONDS:
            self._rest = min(2 * self._rest or self.SHORTEST_REST_SECONDS, self.LONGEST_REST_SECONDS)
            time.sleep(self._rest)
        else:
            self._rest = 0.0
        self._began = time.perf_counter()


def ordered(dataset: Dataset) -> Dataset:
    """A copy of the dataset whose execution keeps the order of its blocks."""
    copy = dataset.copy(dataset)
    copy.context.execution_options = ExecutionOptions(preserve_order=True)
    return copy


class OrderedSplit(DataConfig):
    """Gives block j to rank j mod world.

    Ray Train's own split drops rows to make shards equal and reorders by locality; both would break the
    promise that a global batch depends on (catalog, seed, step) alone.
    """

    def configure(
        self,
        datasets: dict[str, Dataset],
        world_size: int,
        worker_handles: Any,
        worker_node_ids: Any,
        **kwargs: Any,
    ) -> list[dict[str, DataIterator]]:
        """One iterator per worker and dataset."""
        shards: list[dict[str, DataIterator]] = [{} for _ in range(world_size)]
        for name, dataset in datasets.items():
            for rank, split in enumerate(ordered(dataset).streaming_split(world_size, equal=False)):
                shards[rank][name] = split
        return shards


def read_shard(shard: DataIterator, *, prefetch: int) -> Iterator[dict[str, Any]]:
    """This rank's micro-batches in order: the arrays of `build_block`, `block` (int), `faults` (list of
    dictionaries) and `stats` (dictionary)."""
    rows: Iterable[Any] = shard.iter_batches(batch_size=1, batch_format="numpy", prefetch_batches=prefetch)
    for row in rows:
        columns = {name: array[0] for name, array in row.items()}
        texts = {name: json.loads(columns[name]) for name in ("faults", "stats")}
        yield columns | texts | {"block": int(columns["block"])}


@lru_cache(maxsize=2)
def _fetched(table: ray.ObjectRef) -> Samples:
    """The catalog, opened once per process (training and test samples): a task of a small block takes little
    longer than that. Its columns stay in the object store's memory."""
    return ray.get(table)


def _text(value: Any) -> np.ndarray:
    """A column of one JSON text."""
    return np.array([json.dumps(value)], dtype=object)
