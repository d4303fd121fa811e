"""What it costs to bring clips through Ray Data to a training loop, and whether the loop has to wait.

transport   CPU time of all of Ray's processes and of ours per clip of 2.4 MB, without building the blocks
delivery    clips per second of real decoding, against a loader written by hand: as many processes, which
            read, decode and mask the same samples with the same functions, straight into shared memory; in
            turns, each time from a fresh start, timed once blocks flow
waiting     share of the time that a loop waits whose demand is 1/1.2 of what was just delivered

python benchmarks/transport.py [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
import torch
from kinetics_like import encode, scene
from PIL import Image

from mae_dist.config.geometry import Grid
from mae_dist.config.schema import AugmentConfig, InputConfig, MaskConfig
from mae_dist.data.batch import StreamSpec
from mae_dist.data.catalog import Catalog
from mae_dist.data.masking import keep_ids
from mae_dist.data.order import SampleOrder, block_positions
from mae_dist.data.plan import OrderedSplit, plan_blocks, read_shard
from mae_dist.data.readers import build_catalog
from mae_dist.data.views import Request, decode_views
from mae_dist.train.feed import Feed

CPUS = os.cpu_count() or 1
CLIPS_PER_BLOCK = 16
"""As recipe pretrain/k400 on 64 GPUs has it. Much of Ray's work is per block: smaller blocks cost more."""
SPEC = StreamSpec(
    seed=0,
    micro_batch=CLIPS_PER_BLOCK,
    input=InputConfig(frames=16, frame_stride=4, height=224, width=224),
    augment=AugmentConfig(crop="multi_scale"),
    mask=MaskConfig(kind="tube", ratio=0.9),
    grid=Grid(frames=8, rows=14, columns=14),
    train=True,
)
SLOTS = 3
"""Blocks that each process of the hand-written loader may have finished and not yet given away."""
START_BLOCKS = 4 * CPUS
"""Not timed: processes start, queues fill."""


def through_shared_memory(catalog: Catalog, num_blocks: int) -> Iterator[torch.Tensor]:
    """Clips of block 0, 1, ... by the hand-written loader; process j mod CPUS builds block j."""
    context = multiprocessing.get_context("spawn")
    size = SPEC.input
    shape = (CPUS, SLOTS, CLIPS_PER_BLOCK, size.frames, size.height, size.width, 3)
    memory = SharedMemory(create=True, size=math.prod(shape))
    pixels = np.ndarray(shape, np.uint8, memory.buf)
    free = [context.Semaphore(SLOTS) for _ in range(CPUS)]
    done = [context.SimpleQueue() for _ in range(CPUS)]
    workers = []
    for n in range(CPUS):
        given = (catalog, range(n, num_blocks, CPUS), memory.name, shape, free[n], done[n])
        workers.append(context.Process(target=fill_slots, args=given))
    for worker in workers:
        worker.start()
    for block in range(num_blocks):
        turn, number = divmod(block, CPUS)
        done[number].get()  # the sample ids, labels and masks
        # A copy, as a training makes one to let go of the slot; pinned or on the device where it has one.
        yield torch.from_numpy(pixels[number, turn % SLOTS].copy())
        free[number].release()
    for worker in workers:
        worker.join()
    del pixels
    memory.close()
    memory.unlink()


def fill_slots(
    catalog: Catalog, blocks: range, name: str, shape: tuple[int, ...], free: Any, done: Any
) -> None:
    """What each process of the hand-written loader does: build its blocks, one slot after the other."""
    torch.set_num_threads(1)
    SPEC.views.prepare()
    memory = SharedMemory(name)
    pixels = np.ndarray(shape, np.uint8, memory.buf)[blocks.start]
    order = SampleOrder(catalog.num_samples, catalog.chunk, SPEC.seed)
    for turn, block in enumerate(blocks):
        epochs, samples = order.at(block_positions(block, CLIPS_PER_BLOCK))
        free.acquire()
        masks = []
        keys = zip(epochs.tolist(), samples.tolist(), strict=True)
        for place, (row, (epoch, sample)) in enumerate(zip(catalog.rows(samples), keys, strict=True)):
            with open(row.uri, "rb") as file:
                request = Request(file.read(), row.media, sample, (epoch,))
            decode_views(request, SPEC.views, pixels[turn % SLOTS, place : place + 1])
            masks.append(keep_ids("tube", SPEC.grid, 0.9, seed=SPEC.seed, epoch=epoch, sample=sample))
        done.put((epochs, samples, np.stack(masks)))


def through_plan(catalog: Catalog, num_blocks: int) -> Feed:
    """Blocks as a training gets them."""
    plan = plan_blocks(SPEC, catalog, first_block=0, num_blocks=num_blocks, cpus_per_task=1.0)
    [shard] = OrderedSplit().configure({"train": plan}, 1, None, None)
    rows = read_shard(shard["train"], prefetch=2)
    return Feed(rows, device=torch.device("cpu"), seed=0, ahead=2, ledger=None)


def clips_per_second(batches: Iterable[Any], num_blocks: int) -> float:
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


def videos(folder: str) -> Catalog:
    """One video of the kind of Kinetics-400 under several names."""
    os.makedirs(folder)
    data = encode(scene(300, 256, 340), keyframe_every=250)
    for number in range(16):
        Path(folder, f"{number}.mp4").write_bytes(data)
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
        clips = videos(f"{folder}/clips")
        ray.init(
            address="local", num_cpus=CPUS, object_store_memory=max(1 << 30, CPUS << 28), log_to_driver=False
        )
        costs, ratios, waits = [], [], []
        for _ in range(arguments.rounds):
            costs.append(transport_cpu_ms(stills, 25 * CPUS))
            num_blocks = START_BLOCKS + 12 * CPUS
            delivered = clips_per_second(through_plan(clips, num_blocks), num_blocks)
            ratios.append(delivered / clips_per_second(through_shared_memory(clips, num_blocks), num_blocks))
            waits.append(waiting_share(clips, num_blocks, demand=delivered / 1.2))
        ray.shutdown()
    claims = [
        claim("Ray transport per clip of 2.4 MB", costs, 4.5, at_most=True, unit="ms of CPU"),
        claim("clips delivered, against a hand-written loader", ratios, 0.90, at_most=False, unit="x"),
        claim("waiting at 1.2x decode capacity", waits, 0.02, at_most=True, unit="of the time"),
    ]
    if arguments.json:
        print(json.dumps({"claims": claims}, indent=1))
        return
    for entry in claims:
        print(f"{entry['measured']:.3g} {entry['unit']} (goal {entry['goal']}): {entry['what']}")


if __name__ == "__main__":
    main()
