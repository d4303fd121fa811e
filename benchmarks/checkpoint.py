"""How long saving blocks a training of two ranks with ZeRO-1, and how long writing and restoring take.

A training saves again and again through the real checkpointer, to a local folder. Blocked is the loop in
`save`: the copy of a rank's share of the state to host memory, and an earlier save that is still being
written. The first save also makes that memory; what counts is the median of the others. It is set against a
save every 100 steps of the same training, whose steps are measured beside it, and so is what the writing
threads take from the steps behind a save. `mae_base` is a state of ViT-B's size; its steps are of one image
per rank, to be quick.

    python benchmarks/checkpoint.py [--saves 7] [--sizes small mae_base] [--folder .] [--json]

Times are wall-clock: it needs two free cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "MASTER_ADDR": "127.0.0.1"}
sys.path.insert(0, str(Path(__file__).parent))

import pretraining
import torch
import torch.distributed as dist
from pretraining import Case
from step import CASES

from mae_dist.config.geometry import ARCHITECTURES

WORLD = 2
STEPS_PER_SAVE = 100
LONGEST_SHARE = 0.01
SIZES = {
    "small": CASES["image"],
    "mae_base": (Case(architecture=ARCHITECTURES["mae_base"], frames=1, side=224), 1),
}
"""Case and micro-batch."""
STEPS_BETWEEN = {"small": 3, "mae_base": 2}
"""Measured steps before and after every save."""


def run_rank(rank: int, size: str, folder: str, saves: int, results: Any) -> None:
    """One rank of the training; puts what it measured into `results`."""
    from mae_dist.train import checkpoint
    from mae_dist.train.checkpoint import Checkpointer, Progress
    from mae_dist.train.zero import ZeroEngine

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    case, micro_batch = SIZES[size]
    engine = ZeroEngine(
        pretraining.our_task(case),
        lambda task: pretraining.our_optimizer(task, case),
        stage=1,
        micro_batch=micro_batch,
        accumulation=1,
        clip_grad_norm=None,
        autocast_dtype=None,
    )
    batch = pretraining.make_batch(case, micro_batch, seed=rank)

    def steps() -> float:
        started = time.perf_counter()
        for _ in range(STEPS_BETWEEN[size]):
            engine.backward(engine(batch).loss)
            engine.step(1e-5)
        return (time.perf_counter() - started) / STEPS_BETWEEN[size]

    uri = f"{folder}/checkpoints"
    checkpointer = Checkpointer(uri, rank=rank, world=WORLD, attempt="a", keep=1)
    found: dict[str, list[float]] = {"blocked": [], "published": [], "before": [], "after": []}
    steps()
    for number in range(saves):
        found["before"].append(steps())
        started = time.perf_counter()
        checkpointer.save(engine, Progress(step=number + 1))
        found["blocked"].append(time.perf_counter() - started)
        found["after"].append(steps())
        checkpointer.wait()
        dist.barrier()  # only then has rank 0 published
        found["published"].append(time.perf_counter() - started)
    started = time.perf_counter()
    checkpoint.load(uri, saves, engine)
    dist.barrier()
    found["restored"] = [time.perf_counter() - started]
    found["bytes"] = [float(sum(values.nbytes for values in engine.fragments().values()))]
    results.put(found)
    dist.barrier()
    dist.destroy_process_group()


def measure(size: str, folder: str, saves: int) -> dict[str, float]:
    """Seconds and bytes of one size; of two ranks the slower one counts."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    ranks = [
        context.Process(target=run_rank, args=(rank, size, folder, saves, results), daemon=True)
        for rank in range(WORLD)
    ]
    for process in ranks:
        process.start()
    first, second = (results.get() for _ in ranks)
    for process in ranks:
        process.join()
    worst = {name: [max(pair) for pair in zip(first[name], second[name], strict=True)] for name in first}
    first_block, *blocked = worst["blocked"]
    step = statistics.median(worst["before"])
    return {
        "megabytes per rank": worst["bytes"][0] / 1e6,
        "step seconds": step,
        "first blocked seconds": first_block,
        "blocked seconds": statistics.median(blocked),
        "longest blocked seconds": max(blocked),
        "copied GB/s per rank": worst["bytes"][0] / statistics.median(blocked) / 1e9,
        # Of the steps that run while a save is written.
        "slower steps, seconds per save": STEPS_BETWEEN[size]
        * statistics.median(
            after - before for before, after in zip(worst["before"], worst["after"], strict=True)
        ),
        "seconds from save to published": statistics.median(worst["published"]),
        "restore seconds": worst["restored"][0],
    }


def claims_of(size: str, found: dict[str, float]) -> list[dict[str, Any]]:
    """Blocked time in shares of a run that saves every 100 steps, and in steps."""
    run = STEPS_PER_SAVE * found["step seconds"]
    claims = []
    for what, measured, goal in (
        ("share of the run blocked", found["blocked seconds"] / run, LONGEST_SHARE),
        ("longest block, in steps", found["longest blocked seconds"] / found["step seconds"], 1.0),
    ):
        text = f"{size}, 2 ranks, ZeRO-1, a save every {STEPS_PER_SAVE} steps: {what}, at most"
        claims.append(
            {"what": text, "measured": float(f"{measured:.3g}"), "goal": goal, "met": measured <= goal}
        )
    return claims


def main() -> None:
    """Measure every size and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--saves", type=int, default=7)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--folder", help="write below this one instead of the system's temporary folder")
    parser.add_argument("--json", action="store_true", help="print the claims as JSON")
    arguments = parser.parse_args()
    claims, details = [], {}
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            found = measure(size, folder, arguments.saves)
        claims += claims_of(size, found)
        details[size] = {name: float(f"{value:.4g}") for name, value in found.items()}
    if arguments.json:
        print(json.dumps({"claims": claims, "details": details}, indent=1))
        return
    for size, values in details.items():
        print(f"{size}: {values}")
    for claim in claims:
        print(f"{claim['measured']} (goal {claim['goal']} at most): {claim['what']}")


if __name__ == "__main__":
    main()
