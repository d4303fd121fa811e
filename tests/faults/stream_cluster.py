"""A cluster of several nodes on this host and a stream through it, in a process of its own.

    python -m tests.faults.stream_cluster FOLDER CASE        leaves FOLDER/CASE.json

The head holds the consumers, which reserve its CPUs as trainers do; other nodes have CPUs and nothing else.
"""

from __future__ import annotations

import atexit
import io
import re
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import ray
import torch
from PIL import Image
from ray._private.internal_api import memory_summary
from ray.cluster_utils import Cluster

from mae_dist import storage
from mae_dist.config.geometry import Grid
from mae_dist.config.schema import AugmentConfig, InputConfig, MaskConfig
from mae_dist.data.batch import StreamSpec, build_block
from mae_dist.data.catalog import Catalog
from mae_dist.data.plan import OrderedSplit, plan_blocks, read_shard
from mae_dist.data.readers import build_catalog
from mae_dist.data.sources import make_source
from mae_dist.train.feed import Feed, digest

SPEC = StreamSpec(
    seed=3,
    micro_batch=2,
    input=InputConfig(frames=4, frame_stride=2, height=32, width=32),
    augment=AugmentConfig(crop="multi_scale"),
    mask=MaskConfig(kind="tube", ratio=0.75),
    grid=Grid(frames=2, rows=4, columns=4),
    train=True,
)
TRAINERS = 2
SMALL_STORE = 200 << 20
MEGABYTE = 1 << 20


class Nodes:
    """A running cluster: a head with `TRAINERS` CPUs, all of them taken, and one-CPU nodes."""

    def __init__(
        self, *, decode_nodes: int, store: int = 128 << 20, spare_cpus: int = 0, **labelled: int
    ) -> None:
        """`labelled`: custom resources of one more decode node."""
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": TRAINERS + spare_cpus,
                "resources": {"trainer": TRAINERS},
                "object_store_memory": store,
                "include_dashboard": False,
            },
        )
        plain = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": store}
        self.decode = [self.cluster.add_node(**plain) for _ in range(decode_nodes)]
        if labelled:
            self.decode.append(self.cluster.add_node(**plain, resources=labelled))
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="error")
        self.trainers = [Trainer.remote() for _ in range(TRAINERS)]
        ray.get([trainer.start.remote(None) for trainer in self.trainers])
        # One that waits for a block when its cluster goes would stay behind.
        atexit.register(lambda: [ray.kill(trainer) for trainer in self.trainers])

    @property
    def decode_ids(self) -> list[str]:
        """Of the nodes without trainers."""
        return [node.node_id for node in self.decode]

    def give(self, catalog: Catalog, *, num_blocks: int, spec: StreamSpec = SPEC, **options: Any) -> None:
        """Let the trainers iterate over a plan."""
        plan = plan_blocks(spec, catalog, first_block=0, num_blocks=num_blocks, cpus_per_task=1.0, **options)
        shards = OrderedSplit().configure({"train": plan}, TRAINERS, None, None)
        for trainer, shard in zip(self.trainers, shards, strict=True):
            trainer.start.remote(shard["train"])

    def take(self) -> list[dict[str, Any]] | None:
        """The next block of every trainer: its number, digest and node; None at the end."""
        rows = ray.get([trainer.take.remote() for trainer in self.trainers])
        return None if None in rows else rows


@ray.remote(num_cpus=1, resources={"trainer": 1})
class Trainer:
    """Takes a shard block by block."""

    def start(self, shard: Any) -> None:
        self.rows = None if shard is None else read_shard(shard, prefetch=1)

    def take(self) -> dict[str, Any] | None:
        row = next(self.rows, None)
        return row and {"block": row["block"], "digest": digest(row), "node": row["stats"]["node"]}

    def train(self, shard: Any, seconds: float) -> list[int]:
        """Consume a whole shard at a pace; the private memory of this process over time, in MB."""
        memory = []
        rows = read_shard(shard, prefetch=1)
        for _ in Feed(rows, device=torch.device("cpu"), seed=0, ahead=2, ledger=None):
            time.sleep(seconds)
            memory.append(private_memory())
        return memory


def private_memory() -> int:
    """MB that belong to this process alone: without the object store, which is mapped too."""
    with open("/proc/self/status") as file:
        [line] = [line for line in file if line.startswith("RssAnon:")]
    return int(line.split()[1]) >> 10


def everywhere(catalog: Catalog) -> dict[str, Any]:
    """Take blocks until every decode node has built one."""
    nodes = Nodes(decode_nodes=2)
    nodes.give(catalog, num_blocks=10_000)
    seen: set[str] = set()
    while seen < set(nodes.decode_ids) and (rows := nodes.take()):
        seen |= {row["node"] for row in rows}
    return {"seen": sorted(seen), "decode": sorted(nodes.decode_ids)}


def pinned(catalog: Catalog) -> dict[str, Any]:
    """Blocks may be built on the node with the resource alone."""
    nodes = Nodes(decode_nodes=1, spare_cpus=1, decode=1)
    nodes.give(catalog, num_blocks=40, resource="decode")
    seen = set()
    while rows := nodes.take():
        seen |= {row["node"] for row in rows}
    return {"seen": sorted(seen), "decode": [nodes.decode_ids[-1]]}


def lost_node(catalog: Catalog) -> dict[str, Any]:
    """A node is killed after it has built blocks, some of which wait to be used."""
    nodes = Nodes(decode_nodes=2)
    num_blocks = 600
    nodes.give(catalog, num_blocks=num_blocks)
    received: list[dict[str, Any]] = []
    killed = None
    while rows := nodes.take():
        received += rows
        builders = {row["node"] for row in received}
        if killed is None and builders >= set(nodes.decode_ids):
            killed = nodes.decode[0]
            nodes.cluster.remove_node(killed, allow_graceful=False)
    expected = [digest(build_block(block, catalog, SPEC)) for block in range(num_blocks)]
    return {
        "killed": killed is not None,
        "by_killed": sum(row["node"] == nodes.decode_ids[0] for row in received) if killed else 0,
        "blocks_in_order": [row["block"] for row in received] == list(range(num_blocks)),
        "same_content": [row["digest"] for row in received] == expected,
    }


def small_store(_: Catalog) -> dict[str, Any]:
    """Two gigabytes through an object store of 200 MB, used more slowly than they can be built."""
    nodes = Nodes(decode_nodes=0, store=SMALL_STORE, spare_cpus=2)
    # An image stands still: clips of 2.4 MB for next to no decoding.
    spec = replace(
        SPEC,
        micro_batch=4,
        input=InputConfig(frames=16, height=224, width=224),
        grid=Grid(frames=8, rows=14, columns=14),
    )
    num_blocks = 220
    plan = plan_blocks(spec, stills(), first_block=0, num_blocks=num_blocks, cpus_per_task=1.0)
    shards = OrderedSplit().configure({"train": plan}, TRAINERS, None, None)
    memory = ray.get(
        [
            trainer.train.remote(shard["train"], 0.15)
            for trainer, shard in zip(nodes.trainers, shards, strict=True)
        ]
    )
    summary = memory_summary(stats_only=True)
    spilled = re.search(r"Spilled (\d+) MiB", summary)
    return {
        "blocks": sum(len(readings) for readings in memory),
        "megabytes": num_blocks * spec.micro_batch * 16 * 224 * 224 * 3 // MEGABYTE,
        "spilled_megabytes": int(spilled.group(1)) if spilled else 0,
        "memory_after_the_start": [readings[20] for readings in memory],
        "memory_at_most": [max(readings[20:]) for readings in memory],
        "summary": summary,
    }


def stills() -> Catalog:
    """Sixteen images of noise beside the samples."""
    for number in range(16):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        storage.write_bytes(storage.join(folder, "stills", f"{number}.png"), file.getvalue())
    return build_catalog(storage.join(folder, "stills"))


CASES = {case.__name__: case for case in (everywhere, pinned, lost_node, small_store)}

if __name__ == "__main__":
    folder, case = sys.argv[1:]
    samples = make_source("drawn://moving_clips?samples=13&seed=0", work_folder=folder)
    # Not printed: Ray's own processes write to the same places.
    storage.write_json(storage.join(folder, f"{case}.json"), CASES[case](samples))
