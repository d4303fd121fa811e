"""The training loop, and the evaluation loop beside it; they know neither ray nor deepspeed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mae_dist.config.schema import FaultBudget
from mae_dist.data.faults import Fault, check_budget
from mae_dist.train.checkpoint import Checkpointer, Progress
from mae_dist.train.engine import Engine
from mae_dist.train.feed import Feed
from mae_dist.train.guard import LossGuard
from mae_dist.train.intake import over_ranks
from mae_dist.train.metrics import Clock, Meters, RunLog, gather_faults
from mae_dist.train.schedule import Schedule
from mae_dist.train.tasks import ClassifyTask


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How many samples and micro-batches make a step, and how often things happen, in steps."""

    global_batch: int
    accumulation: int
    samples_per_epoch: int
    repeats: int
    """Crops of each sample that is decoded."""
    log_every: int
    checkpoint_every: int


def train(
    engine: Engine,
    feed: Feed,
    *,
    progress: Progress,
    schedule: Schedule,
    pace: Pace,
    guard: LossGuard,
    budget: FaultBudget,
    checkpointer: Checkpointer,
    run_log: RunLog,
) -> Progress:
    """Train from `progress` to the schedule's end, checkpointing and logging on the way."""
    meters, clock, batches, logged = Meters(), Clock(), iter(feed), progress.step
    num_faults = 0
    while progress.step < schedule.total_steps:
        lr = schedule.lr(progress.step)
        for _ in range(pace.accumulation):
            batch = next(batches, None)
            if batch is None:
                raise RuntimeError(f"the stream ended in step {progress.step} of {schedule.total_steps}")
            out = engine(batch)
            engine.backward(out.loss)
            guard.watch(out.loss)
            meters.add(out.metrics)
        grad_norm = engine.step(lr)
        progress = Progress(step=progress.step + 1, samples=progress.samples + pace.global_batch)

        checkpointer.check()
        is_last = progress.step == schedule.total_steps
        if is_last or progress.step % pace.log_every == 0:
            guard.check(progress.step)
            met = gather_faults(feed.take_faults())
            run_log.write_faults(met, progress.step)
            num_faults += len(met)
            latest = [Fault(**fault) for fault in met]
            check_budget(
                budget, num_faults=num_faults, num_seen=progress.samples // pace.repeats, latest=latest
            )
            steps = progress.step - logged
            figures = clock.read(
                samples=steps * pace.global_batch,
                taken=over_ranks(feed.take_intake()),
                steps=steps,
                steps_left=schedule.total_steps - progress.step,
            )
            position = {"step": progress.step, "epoch": progress.samples / pace.samples_per_epoch}
            scalars = {"lr": lr, "grad_norm": float(grad_norm), "faults": len(met)}
            run_log.write(position | meters.read() | scalars | figures)
            logged = progress.step
        if is_last or progress.step % pace.checkpoint_every == 0:
            guard.check(progress.step)
            checkpointer.save(engine, progress)
            run_log.flush()
    checkpointer.wait()
    return progress


@torch.no_grad()
def evaluate(task: ClassifyTask, batches: Iterable[dict[str, Any]]) -> dict[str, Tensor]:
    """Sums of `task.score` over all batches of all ranks; ranks may have different numbers of batches."""
    task.eval()
    sums = task.zero_score()
    for batch in batches:
        for name, value in task.score(batch).items():
            sums[name] += value
    if dist.is_initialized():
        for name in sorted(sums):
            dist.all_reduce(sums[name])
    return sums
