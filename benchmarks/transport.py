"""What it costs to bring clips through Ray Data to a training loop, and whether the loop has to wait.

transport   CPU time of all of Ray's processes and of ours per clip of 2.4 MB, without building the blocks
delivery    clips per second of real decoding, against torch's DataLoader with as many processes and the
            same `build_block`; in turns, each time from a fresh start, timed once blocks flow
waiting     share of the time that a loop waits whose demand is 1/1.2 of what was just delivered

python benchmarks/transport.py [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import ray
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mae_dist.config.geometry import Grid
from mae_dist.config.schema import AugmentConfig, InputConfig, MaskConfig
from mae_dist.data.batch import StreamSpec, build_block
from mae_dist.data.catalog import Catalog
from mae_dist.data.plan import OrderedSplit, plan_blocks, read_shard
from mae_dist.data.readers import build_catalog
from mae_dist.data.synthetic import write_moving_clips
from mae_dist.train.feed import Feed

CPUS = os.cpu_count() or 1
CLIPS_PER_BLOCK = 4
SPEC = StreamSpec(
    seed=0,
    micro_batch=CLIPS_PER_BLOCK,
    input=InputConfig(frames=16, frame_stride=4, height=224, width=224),
    augment=AugmentConfig(crop="multi_scale"),
    mask=MaskConfig(kind="tube", ratio=0.9),
    grid=Grid(frames=8, rows=14, columns=14),
    train=True,
)
START_BLOCKS = 4 * CPUS
"""Not timed: processes start, queues fill."""


class Blocks(Dataset):
    """The rival's view of the stream: item j is block j."""

    def __init__(self, catalog: Catalog, num_blocks: int) -> None:
        self.catalog, self.num_blocks = catalog, num_blocks

    def __len__(self) -> int:
        return self.num_blocks

    def __getitem__(self, block: int) -> dict[str, Any]:
        columns = build_block(block, self.catalog, SPEC)
        del columns["faults"], columns["stats"]
        return columns


def through_loader(catalog: Catalog, num_blocks: int) -> Iterator[Any]:
    """Blocks from as many processes as there are CPUs, as tensors in shared memory."""
    yield from DataLoader(Blocks(catalog, num_blocks), batch_size=None, num_workers=CPUS, prefetch_factor=2)


def through_plan(catalog: Catalog, num_blocks: int) -> Feed:
    """Blocks as a training gets them."""
    plan = plan_blocks(SPEC, catalog, first_block=0, num_blocks=num_blocks, cpus_per_task=1.0)
    [shard] = OrderedSplit().configure({"train": plan}, 1, None, None)
    rows = read_shard(shard["train"], prefetch=2)
    return Feed(rows, device=torch.device("cpu"), seed=0, ahead=2, ledger=None)


def clips_per_second(batches: Any, num_blocks: int) -> float:
    """Of the blocks after the first START_BLOCKS."""
    started = 0.0
    for number, _ in enumerate(batches, start=1):
        if number == START_BLOCKS:
            started = time.perf_counter()
    return (num_blocks - START_BLOCKS) * CLIPS_PER_BLOCK / (time.perf_counter() - started)


def cpu_seconds_of_all() -> dict[int, float]:
    """CPU time so far of this process and of everything below it, by process id."""
    own = psutil.Process()
    found = {}
    for process in [own, *own.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found[process.pid] = times.user + times.system
    return found


def transport_cpu_ms(catalog: Catalog, num_blocks: int) -> float:
    """CPU milliseconds per clip that were not spent in building blocks."""
    feed = through_plan(catalog, num_blocks + START_BLOCKS)
    before: dict[int, float] = {}
    for number, _ in enumerate(feed, start=1):
        if number == START_BLOCKS:
            feed.take_intake()
            before = cpu_seconds_of_all()
        if number == START_BLOCKS + num_blocks:
            break
    after = cpu_seconds_of_all()
    spent = sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
    return 1000 * (spent - feed.take_intake().build_cpu_seconds) / (num_blocks * CLIPS_PER_BLOCK)


def waiting_share(catalog: Catalog, num_blocks: int, *, demand: float) -> float:
    """Of the time of a loop that uses `demand` clips per second on another device and no CPU."""
    feed = through_plan(catalog, num_blocks)
    started = 0.0
    for number, _ in enumerate(feed, start=1):
        if number == START_BLOCKS:
            feed.take_intake()
            started = time.perf_counter()
        time.sleep(CLIPS_PER_BLOCK / demand)
    return feed.take_intake().waited_seconds / (time.perf_counter() - started)


def images(folder: str) -> Catalog:
    """A few small images, each of which becomes a clip of 16 equal frames: 2.4 MB for next to no decoding."""
    os.makedirs(folder)
    for number in range(16):
        pixels = np.random.default_rng(number).integers(0, 256, (56, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((256, 256)).save(f"{folder}/{number}.jpg")
    return build_catalog(folder)


def claim(what: str, measured: list[float], goal: float, *, at_most: bool, unit: str) -> dict[str, Any]:
    """The median against the goal."""
    middle = statistics.median(measured)
    return {
        "what": what,
        "measured": round(middle, 4),
        "rounds": [round(value, 4) for value in measured],
        "unit": unit,
        "goal": goal,
        "met": middle <= goal if at_most else middle >= goal,
    }


def main() -> None:
    """Make the media, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the claims as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a Ray of its own, on this machine alone
    with tempfile.TemporaryDirectory() as folder:
        stills = images(f"{folder}/stills")
        clips = build_catalog(write_moving_clips(f"{folder}/clips", 16, seed=0, frames=96, size=256))
        ray.init(address="local", num_cpus=CPUS, object_store_memory=1 << 30, log_to_driver=False)
        costs, ratios, waits = [], [], []
        for _ in range(arguments.rounds):
            costs.append(transport_cpu_ms(stills, 50 * CPUS))
            num_blocks = START_BLOCKS + 25 * CPUS
            delivered = clips_per_second(through_plan(clips, num_blocks), num_blocks)
            ratios.append(delivered / clips_per_second(through_loader(clips, num_blocks), num_blocks))
            waits.append(waiting_share(clips, num_blocks, demand=delivered / 1.2))
        ray.shutdown()
    claims = [
        claim("Ray transport per clip of 2.4 MB", costs, 4.5, at_most=True, unit="ms of CPU"),
        claim("clips delivered, against DataLoader", ratios, 0.90, at_most=False, unit="x"),
        claim("waiting at 1.2x decode capacity", waits, 0.02, at_most=True, unit="of the time"),
    ]
    if arguments.json:
        print(json.dumps({"claims": claims}, indent=1))
        return
    for entry in claims:
        print(f"{entry['measured']:.3g} {entry['unit']} (goal {entry['goal']}): {entry['what']}")


if __name__ == "__main__":
    main()
