"""The training loop, and the evaluation loop beside it; they know neither ray nor deepspeed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mae_dist.config.resilience import FaultBudget
from mae_dist.data.faults import Fault, check_budget
from mae_dist.train import checkpoint
from mae_dist.train.checkpoint import Checkpointer, Progress
from mae_dist.train.engine import Engine
from mae_dist.train.feed import Feed
from mae_dist.train.guard import LossGuard
from mae_dist.train.intake import over_ranks
from mae_dist.train.metrics import Clock, Meters, RunLog, gather_faults
from mae_dist.train.schedule import Schedule
from mae_dist.train.stopping import Request, StoppedError, StopRequest
from mae_dist.train.tasks import ClassifyTask
from mae_dist.train.utilisation import Utilisation


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
    stop: StopRequest,
    utilisation: Utilisation,
    run_log: RunLog,
    beat: Callable[[], None] = lambda: None,
) -> Progress:
    """Train from `progress` to the schedule's end, checkpointing and logging on the way.

    Calls `beat` after every step. Raises StoppedError when it was asked to stop; it says what is saved, which
    is the step it had reached, unless that was a bad one.
    """
    meters, clock, batches, logged = Meters(), Clock(utilisation), iter(feed), progress.step
    num_faults = 0
    while progress.step < schedule.total_steps:
        lr = schedule.lr(progress.step)
        for _ in range(pace.accumulation):
            batch = next(batches, None)
            if batch is None:
                raise RuntimeError(f"the stream ended in step {progress.step} of {schedule.total_steps}")
            out = engine(batch)
            engine.backward(guard.watch(out.loss, batch["sample"]))
            meters.add(out.metrics)
        grad_norm = engine.step(lr, skip_above=guard.skip_above)
        progress = replace(progress, step=progress.step + 1, samples=progress.samples + pace.global_batch)
        if guard.is_hopeless(progress.step, grad_norm):
            progress = _go_back(engine, progress, pace, guard, checkpointer)

        checkpointer.check()
        request = stop.agreed()
        is_stopping = request is not Request.NONE
        is_last = progress.step == schedule.total_steps
        if is_last or progress.step % pace.log_every == 0:
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
            scalars = {
                "lr": lr,
                "grad_norm": float(grad_norm),
                "skipped_updates": progress.rolled_back + engine.scale.skipped_updates,
                "faults": len(met),
                "workers": dist.get_world_size() if dist.is_initialized() else 1,
            }
            run_log.write(position | meters.read() | scalars | figures)
            logged = progress.step
        is_due = progress.step % pace.checkpoint_every == 0 or is_stopping
        # Amid bad steps the weights are under suspicion, and nobody should go back to them.
        if is_last or (is_due and guard.state.streak == 0):
            checkpointer.save(engine, progress, guard=asdict(guard.state))
            run_log.flush()
        if is_stopping and not is_last:
            stop.settle()
            checkpointer.wait()
            raise StoppedError(_what_is_saved(progress.step, guard, checkpointer.uri), request)
        beat()
    stop.settle()
    checkpointer.wait()
    return progress


def _what_is_saved(step: int, guard: LossGuard, checkpoints: str) -> str:
    if guard.state.streak == 0:
        return f"asked to stop at step {step}, which is saved"
    newest = checkpoint.newest(checkpoints)
    saved = "nothing is saved yet" if newest is None else f"the newest checkpoint is of step {newest}"
    return f"asked to stop at step {step}, a bad one ({guard.state.streak} in a row), so {saved}"


def _go_back(
    engine: Engine, progress: Progress, pace: Pace, guard: LossGuard, checkpointer: Checkpointer
) -> Progress:
    """Take the newest checkpoint's state, and go on in the stream where it is: the steps between are lost.

    The same on every rank, and again when it is repeated after an interruption, because it follows from the
    steps alone: no checkpoint is saved amid bad steps, and those of an earlier stop are passed over.
    """
    checkpointer.wait()
    uri, last_good = checkpointer.uri, progress.step - guard.state.streak
    newest = [
        checkpoint.newest(uri, at_most=last_good, multiple_of=pace.checkpoint_every)
        or checkpoint.newest(uri, at_most=last_good)
    ]
    if dist.is_initialized():
        # Rank 0's answer: it is the one that has published.
        dist.broadcast_object_list(newest)
    [step] = newest
    guard.go_back(now=progress.step, to=step)
    assert step is not None
    saved = checkpoint.load(uri, step, engine)
    return replace(progress, rolled_back=saved.rolled_back + progress.step - saved.step)


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
