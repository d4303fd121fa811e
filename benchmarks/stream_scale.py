"""How a plan over 800 epochs starts, by the number of samples: the curve should be flat.

Each size runs in a process of its own, in turns: a catalog whose rows all name the same 16 small images is
written, opened and planned, and the first block taken. `open` reads the catalog and checks its digest, and
`plan` copies it once into the object store: both grow with it. `first block` does not: Ray starts its
processes, a task maps the catalog and builds the block. Memory is that of this process (with the catalog)
and that of the process which runs the plan, after it was left alone for a while with nobody taking blocks.

    python benchmarks/stream_scale.py [--rounds 3] [--sizes 1000 100000 10000000] [--json]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import psutil
from PIL import Image

from mae_dist.config.geometry import Grid
from mae_dist.config.schema import AugmentConfig, InputConfig, MaskConfig
from mae_dist.data.batch import StreamSpec
from mae_dist.data.catalog import Catalog

EPOCHS = 800
MICRO_BATCH = 64
IDLE_SECONDS = 10
MEGABYTE = 1 << 20


def write_catalog(folder: str, num_samples: int) -> str:
    """A catalog of so many rows; returns its path."""
    for number in range(16):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"{folder}/{number}.png")
    uris = [f"{folder}/{number % 16}.png" for number in range(num_samples)]
    names = [f"{number:08d}" for number in range(num_samples)]
    catalog = Catalog.of(
        keys=names, uris=uris, media="image", labels=np.zeros(num_samples, np.int32), classes=["one"]
    )
    catalog.save(f"{folder}/catalog.parquet")
    return f"{folder}/catalog.parquet"


def measure(path: str) -> dict[str, float]:
    """Seconds and megabytes of one start."""
    import ray

    from mae_dist.data.plan import OrderedSplit, plan_blocks, read_shard

    spec = StreamSpec(
        seed=0,
        micro_batch=MICRO_BATCH,
        input=InputConfig(height=32, width=32),
        augment=AugmentConfig(),
        mask=MaskConfig(),
        grid=Grid(frames=1, rows=2, columns=2),
        train=True,
    )
    started = time.perf_counter()
    catalog = Catalog.load(path)
    open_seconds = time.perf_counter() - started
    # After that, because the processes that Ray starts ahead end when nobody needs them for a second.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray.init(address="local", num_cpus=2, log_to_driver=False, logging_level=logging.ERROR)
    marks = [time.perf_counter()]
    num_blocks = EPOCHS * catalog.num_samples // MICRO_BATCH
    plan = plan_blocks(spec, catalog, first_block=0, num_blocks=num_blocks, cpus_per_task=1.0)
    [shard] = OrderedSplit().configure({"train": plan}, 1, None, None)
    marks.append(time.perf_counter())
    rows = read_shard(shard["train"], prefetch=1)
    assert next(rows)["block"] == 0
    marks.append(time.perf_counter())
    time.sleep(IDLE_SECONDS)
    executors = [p for p in psutil.Process().children(recursive=True) if "SplitCoordinator" in p.name()]
    plan_seconds, first_seconds = np.diff(marks).tolist()
    result = {
        "samples": catalog.num_samples,
        "blocks": num_blocks,
        "open_seconds": open_seconds,
        "plan_seconds": plan_seconds,
        "first_block_seconds": first_seconds,
        "driver_mb": psutil.Process().memory_info().rss / MEGABYTE,
        "executor_mb": max((p.memory_info().rss / MEGABYTE for p in executors), default=float("nan")),
    }
    return result


def main() -> None:
    """Measure every size in turns and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000, 10_000_000])
    parser.add_argument("--json", action="store_true", help="print the claims as JSON")
    parser.add_argument("--catalog", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.catalog:
        print(json.dumps(measure(arguments.catalog)), flush=True)
        # Ray's processes end with this one; in an orderly shutdown some of them would wait for blocks.
        os._exit(0)
    found: dict[int, list[dict[str, float]]] = {size: [] for size in arguments.sizes}
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for size in arguments.sizes:
            os.makedirs(f"{folder}/{size}")
            paths[size] = write_catalog(f"{folder}/{size}", size)
        for _ in range(arguments.rounds):
            for size, path in paths.items():
                command = [sys.executable, __file__, "--catalog", path]
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found[size].append(json.loads(output.splitlines()[-1]))
    curve = [
        {name: statistics.median(run[name] for run in runs) for name in runs[0]} for runs in found.values()
    ]
    print_result(curve, as_json=arguments.json)


def print_result(curve: list[dict[str, Any]], *, as_json: bool) -> None:
    """The curve, and the largest size against the smallest."""
    small, large = curve[0], curve[-1]
    claims = []
    for name, goal in (("first_block_seconds", 1.25), ("executor_mb", 1.1)):
        ratio = large[name] / small[name]
        what = f"{name}, {large['samples']:,.0f} samples against {small['samples']:,.0f}, {EPOCHS} epochs"
        claims.append({"what": what, "measured": round(ratio, 3), "goal": goal, "met": ratio <= goal})
    if as_json:
        print(json.dumps({"claims": claims, "curve": curve}, indent=1))
        return
    for point in curve:
        print("  ".join(f"{name} {value:,.6g}" for name, value in point.items()))
    for entry in claims:
        print(f"{entry['measured']}x (goal {entry['goal']}x at most): {entry['what']}")


if __name__ == "__main__":
    main()
