"""A training of one small layer through the real loop: a stream of numbers, no Ray, no files but its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist

from mae_dist.config.resilience import GuardConfig
from mae_dist.config.schema import FaultBudget
from mae_dist.train import checkpoint
from mae_dist.train.checkpoint import Checkpointer, Progress
from mae_dist.train.engine import StepOutput, TorchEngine
from mae_dist.train.guard import LossGuard
from mae_dist.train.intake import Intake
from mae_dist.train.loop import Pace, train
from mae_dist.train.metrics import RunLog
from mae_dist.train.schedule import Schedule
from mae_dist.train.stopping import StopRequest

STEPS = 12


class Layer(torch.nn.Linear):
    """Predicts 1 from eight numbers."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(8, 1)

    def forward(self, batch: Any) -> StepOutput:
        loss = (super().forward(batch["clips"]) - 1).square().mean()
        return StepOutput(loss, {"loss": loss.detach()})


class Numbers:
    """The stream: the micro-batch of a step depends on step and rank alone. `meet` may change one."""

    def __init__(self, rank: int, first: int, meet: Callable[[int, torch.Tensor], None]) -> None:
        self.rank, self.first, self.meet = rank, first, meet

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for step in range(self.first + 1, STEPS + 1):
            clips = torch.randn(4, 8, generator=torch.Generator().manual_seed(100 * step + self.rank))
            self.meet(step, clips)
            yield {"clips": clips, "sample": [10 * step + self.rank], "block": 2 * step + self.rank}

    def take_faults(self) -> list:
        return []

    def take_intake(self) -> Intake:
        return Intake()


def train_small(
    folder: str,
    *,
    meet: Callable[[int, torch.Tensor], None],
    leave_out: tuple[int, ...] = (),
    guard: GuardConfig | None = None,
    checkpoint_every: int = 4,
    stop: StopRequest | None = None,
) -> tuple[list[float], Progress, LossGuard]:
    """Weights, progress and guard at the end; goes on from `folder`. Steps in `leave_out` change nothing."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

    class Engine(TorchEngine):
        done = 0

        def step(self, lr):
            self.done += 1
            if self.done in leave_out:
                self._optimizer.zero_grad()
                return torch.tensor(1.0)
            return super().step(lr)

    engine = Engine(
        Layer(),
        lambda module: torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9),
        accumulation=1,
        clip_grad_norm=None,
        autocast_dtype=None,
    )
    progress, state = Progress(), None
    attempts = [uuid.uuid4().hex[:8]]
    if dist.is_initialized():
        dist.broadcast_object_list(attempts)
    newest = checkpoint.newest(folder)
    if newest is not None:
        state = checkpoint.read_manifest(folder, newest).guard
        progress = checkpoint.load(folder, newest, engine)
    watch = LossGuard(guard or GuardConfig(), log_uri=f"{folder}/skipped.jsonl", state=state)
    watch.forget_after(progress.step)
    progress = train(
        engine,
        Numbers(rank, progress.step, meet),  # type: ignore[arg-type]
        progress=progress,
        schedule=Schedule(peak_lr=0.01, min_lr=0.0, warmup_steps=0, total_steps=STEPS),
        pace=Pace(
            global_batch=4 * world,
            accumulation=1,
            samples_per_epoch=16,
            repeats=1,
            log_every=100,
            checkpoint_every=checkpoint_every,
        ),
        guard=watch,
        budget=FaultBudget(),
        checkpointer=Checkpointer(folder, rank=rank, world=world, attempt=attempts[0], keep=9),
        stop=stop or StopRequest(),
        run_log=RunLog(folder, total_steps=STEPS, resumed_step=0, active=False, data_wait_warning=1.0),
    )
    weights = torch.cat([parameter.detach().flatten() for parameter in engine.module.parameters()]).tolist()
    return weights, progress, watch
