"""What Ray Train, DeepSpeed ZeRO-1 and our loop cost, against a bare torch loop on two ranks over gloo.

Both sides train the same model from the same clips in memory, one thread per rank. Ours is the real thing in
Ray Train workers: engine, feed, guard, stop request, log lines. The other is a DistributedDataParallel loop
of ten lines with fused AdamW that looks at nothing. Both worker groups live at the same time and take turns
of some steps, in which the other one sleeps; compared are wall-clock times of rank 0, and CPU times of both
ranks.

    python benchmarks/train_overhead.py [--rounds 7] [--steps 8] [--json]

It needs two free cores: a third busy process shows in the wall-clock time of either side.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "RAY_AUTH_MODE": "disabled"}
sys.path.insert(0, str(Path(__file__).parent))

import pretraining
import torch
import torch.distributed as dist
from step import CASES

WORLD = 2
GOAL = 0.95
LOG_EVERY = 10
POLL_SECONDS = 0.01
CASE, MICRO_BATCH = CASES["image"]


class Turns:
    """A side's view of whose turn it is: a file says the number of the turn, one per turn what it took.

    Even turns are ours, odd ones belong to the bare loop.
    """

    def __init__(self, folder: str, parity: int, rank: int) -> None:
        self._folder, self._next, self._rank = Path(folder), parity, rank
        self._started = self._cpu = 0.0

    def begin(self) -> None:
        """Sleep until it is our turn; ends the process if nobody is left to say so."""
        parent = multiprocessing.parent_process()
        while number_in(self._folder / "turn") < self._next:
            if parent is not None and not parent.is_alive():
                sys.exit("the benchmark is gone")
            time.sleep(POLL_SECONDS)
        self._started, self._cpu = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """Say what the turn took."""
        taken = {"wall": time.perf_counter() - self._started, "cpu": time.process_time() - self._cpu}
        write_whole(self._folder / f"done-{self._next}-{self._rank}", json.dumps(taken))
        self._next += 2


def number_in(file: Path) -> int:
    """The number in the file, -1 if there is none yet."""
    return int(file.read_text()) if file.exists() else -1


def write_whole(file: Path, text: str) -> None:
    """Nobody sees half of it."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.rename(file)


def rows(rank: int) -> Iterator[dict[str, Any]]:
    """The same micro-batch for ever, as the data plane would give it."""
    from mae_dist.data.stats import BlockStats

    batch = pretraining.make_batch(CASE, MICRO_BATCH, seed=rank)
    numbers = torch.arange(MICRO_BATCH).numpy()
    row = {name: values.numpy() for name, values in batch.items()} | {"sample": numbers, "epoch": numbers}
    no_work = dict.fromkeys((field.name for field in dataclasses.fields(BlockStats)), 0)
    for block in itertools.count(rank, WORLD):
        yield row | {"block": block, "faults": [], "stats": dict(no_work)}


def run_ours(job: dict[str, Any]) -> None:
    """The training function of a Ray Train worker."""
    import ray.train

    from mae_dist.config.resilience import FaultBudget, GuardConfig
    from mae_dist.model.operations import forward_multiply_adds, training_operations
    from mae_dist.train.checkpoint import Checkpointer, Progress
    from mae_dist.train.feed import Feed
    from mae_dist.train.guard import LossGuard
    from mae_dist.train.loop import Pace, train
    from mae_dist.train.metrics import RunLog
    from mae_dist.train.schedule import Schedule
    from mae_dist.train.stopping import StopRequest
    from mae_dist.train.utilisation import Utilisation
    from mae_dist.train.zero import ZeroEngine

    rank, folder, steps = ray.train.get_context().get_world_rank(), job["folder"], job["steps"]
    torch.set_num_threads(1)
    turns = Turns(folder, 0, rank)

    class FeedInTurns(Feed):
        """The real feed, which stops in front of every turn."""

        def __iter__(self) -> Iterator[dict[str, Any]]:
            for number, batch in enumerate(super().__iter__()):
                if number and number % steps == 0:
                    turns.end()
                if number % steps == 0 and number < job["turns"] * steps:
                    turns.begin()
                yield batch

    cost = forward_multiply_adds(CASE.architecture, CASE.grid, num_kept=CASE.num_kept)
    # One step behind the last turn, so that the loop asks for another batch when that has ended.
    total_steps = job["turns"] * steps + 1
    train(
        ZeroEngine(
            pretraining.our_task(CASE),
            lambda task: pretraining.our_optimizer(task, CASE),
            stage=1,
            micro_batch=MICRO_BATCH,
            accumulation=1,
            clip_grad_norm=None,
            autocast_dtype=None,
        ),
        FeedInTurns(rows(rank), device=torch.device("cpu"), seed=0, ahead=2, ledger=None),
        progress=Progress(),
        schedule=Schedule(peak_lr=1e-4, min_lr=0.0, warmup_steps=0, total_steps=total_steps),
        pace=Pace(
            global_batch=WORLD * MICRO_BATCH,
            accumulation=1,
            samples_per_epoch=10_000,
            repeats=1,
            log_every=LOG_EVERY,
            checkpoint_every=10**9,
        ),
        guard=LossGuard(GuardConfig(), log_uri=f"{folder}/skipped.jsonl"),
        budget=FaultBudget(),
        checkpointer=Checkpointer(f"{folder}/checkpoints", rank=rank, world=WORLD, attempt="a", keep=1),
        stop=StopRequest(),
        utilisation=Utilisation(operations=training_operations(cost), world=WORLD, peak_tflops=None),
        run_log=RunLog(
            folder, total_steps=total_steps, resumed_step=0, active=rank == 0, data_wait_warning=1.0
        ),
    )


def run_bare(rank: int, folder: str, steps: int, num_turns: int) -> None:
    """The loop of a user who takes nothing but torch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    task = pretraining.our_task(CASE)
    optimizer = pretraining.our_optimizer(task, CASE)
    model = torch.nn.parallel.DistributedDataParallel(task, gradient_as_bucket_view=True)
    batch = pretraining.make_batch(CASE, MICRO_BATCH, seed=rank)
    turns = Turns(folder, 1, rank)
    for _ in range(num_turns):
        turns.begin()
        for _ in range(steps):
            model(batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        turns.end()
    dist.destroy_process_group()


def referee(folder: Path, num_turns: int, found: list[dict[str, float]]) -> None:
    """Give each side its turn when the other is done."""
    for number in range(2 * num_turns):
        write_whole(folder / "turn", str(number))
        files = [folder / f"done-{number}-{rank}" for rank in range(WORLD)]
        while not all(file.exists() for file in files):
            time.sleep(POLL_SECONDS)
        first, second = (json.loads(file.read_text()) for file in files)
        found.append({"wall": first["wall"], "cpu": first["cpu"] + second["cpu"]})


def measure(folder: str, rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds of each turn, by side and clock; the first round warms up and is left out."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    num_turns = rounds + 1
    context = multiprocessing.get_context("spawn")
    bare = [
        context.Process(target=run_bare, args=(rank, folder, steps, num_turns), daemon=True)
        for rank in range(WORLD)
    ]
    for process in bare:
        process.start()
    taken: list[dict[str, float]] = []
    judge = threading.Thread(target=referee, args=(Path(folder), num_turns, taken), daemon=True)
    judge.start()
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ray.init(
        address="local",
        num_cpus=WORLD,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    TorchTrainer(
        run_ours,
        train_loop_config={"folder": folder, "steps": steps, "turns": num_turns},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=WORLD),
        run_config=RunConfig(storage_path=f"{folder}/ray"),
    ).fit()
    judge.join()
    for process in bare:
        process.join()
    ray.shutdown()
    return {
        f"{side} {clock}": [turn[clock] for turn in taken[2 + parity :: 2]]
        for parity, side in enumerate(("ours", "bare"))
        for clock in ("wall", "cpu")
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8, help="in each turn")
    parser.add_argument("--json", action="store_true", help="print the claims as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(folder, arguments.rounds, arguments.steps)
    claims, figures = [], {}
    for clock in ("wall", "cpu"):
        ratio = statistics.median(
            bare / own for bare, own in zip(found[f"bare {clock}"], found[f"ours {clock}"], strict=True)
        )
        figures[f"times bare torch, {clock} time"] = round(ratio, 3)
        for side in ("ours", "bare"):
            seconds = statistics.median(found[f"{side} {clock}"]) / arguments.steps
            figures[f"{side}, {clock} ms per step"] = round(1000 * seconds, 1)
    ratio = figures["times bare torch, wall time"]
    what = "Ray Train + ZeRO-1 + loop, 2 ranks: throughput, times bare torch DDP, wall time"
    claims.append({"what": what, "measured": ratio, "goal": GOAL, "met": ratio >= GOAL})
    if arguments.json:
        print(json.dumps({"claims": claims, "figures": figures}, indent=1))
        return
    print(figures)
    for claim in claims:
        print(f"{claim['measured']}x (goal {claim['goal']}x): {claim['what']}")


if __name__ == "__main__":
    main()
