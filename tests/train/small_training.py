"""Trainings through the real loop without Ray: of one small layer on a stream of numbers, or of any engine.

No files but those of the training itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist

from mae_dist.config.resilience import FaultBudget, GuardConfig
from mae_dist.train import checkpoint
from mae_dist.train.checkpoint import Checkpointer, Progress
from mae_dist.train.engine import Engine, StepOutput, TorchEngine
from mae_dist.train.guard import LossGuard
from mae_dist.train.intake import Intake
from mae_dist.train.loop import Pace, train
from mae_dist.train.metrics import RunLog
from mae_dist.train.schedule import Schedule
from mae_dist.train.stopping import StopRequest
from mae_dist.train.utilisation import Utilisation

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


class Disturbed:
    """An engine whose losses are multiplied by `factors` of their steps and that leaves other steps out.

    `leave_out` says how the loss scale counts each such step; None: not at all, as if it had been undone.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        factors: Mapping[int, float] | None = None,
        leave_out: Mapping[int, Mapping[str, bool] | None] | None = None,
    ) -> None:
        self._engine, self._factors, self._left_out = engine, factors or {}, leave_out or {}
        self.current = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __call__(self, batch: Any) -> StepOutput:
        if self.current in self._left_out:
            return StepOutput(torch.zeros((), requires_grad=True), {"loss": torch.zeros(())})
        out = self._engine(batch)
        return out._replace(loss=out.loss * self._factors.get(self.current, 1.0))

    def backward(self, loss: torch.Tensor) -> None:
        if self.current not in self._left_out:
            self._engine.backward(loss)

    def step(self, lr: float, *, skip_above: float) -> torch.Tensor:
        now, self.current = self.current, self.current + 1
        if now not in self._left_out:
            return self._engine.step(lr, skip_above=skip_above)
        counted = self._left_out[now]
        if counted is not None:
            self._engine.scale.count(**counted)
        return torch.tensor(1.0)


def train_small(
    folder: str,
    *,
    meet: Callable[[int, torch.Tensor], None],
    leave_out: tuple[int, ...] = (),
    **options: Any,
) -> tuple[list[float], Progress, LossGuard]:
    """Weights, progress and guard at the end; goes on from `folder`. Steps in `leave_out` change nothing."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    engine = TorchEngine(
        Layer(),
        lambda module: torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9),
        accumulation=1,
        clip_grad_norm=None,
        autocast_dtype=None,
    )
    progress, watch = train_engine(
        Disturbed(engine, leave_out=dict.fromkeys(leave_out)),
        folder,
        stream=lambda first: Numbers(rank, first, meet),
        **options,
    )
    weights = torch.cat([parameter.detach().flatten() for parameter in engine.module.parameters()]).tolist()
    return weights, progress, watch


def train_engine(
    engine: Disturbed,
    folder: str,
    *,
    stream: Callable[[int], Any],
    guard: GuardConfig | None = None,
    overflow_is_normal: bool = False,
    checkpoint_every: int = 4,
    stop: StopRequest | None = None,
    publish: Callable[[Mapping[str, float]], None] | None = None,
) -> tuple[Progress, LossGuard]:
    """Progress and guard at the end; goes on from `folder` with the stream after the step reached there.

    With `publish`, which gets its lines, the log is written too.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    progress, state = Progress(), None
    attempts = [uuid.uuid4().hex[:8]]
    if dist.is_initialized():
        dist.broadcast_object_list(attempts)
    newest = checkpoint.newest(folder)
    if newest is not None:
        state = checkpoint.read_manifest(folder, newest).guard
        progress = checkpoint.load(folder, newest, engine)
        engine.current = progress.step + 1
    watch = LossGuard(
        guard or GuardConfig(),
        log_uri=f"{folder}/skipped.jsonl",
        state=state,
        overflow_is_normal=overflow_is_normal,
    )
    watch.forget_after(progress.step)
    progress = train(
        engine,
        stream(progress.step),
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
        utilisation=Utilisation(operations=1, world=world, peak_tflops=None),
        run_log=RunLog(
            folder,
            total_steps=STEPS,
            resumed_step=progress.step,
            active=publish is not None,
            data_wait_warning=1.0,
            publish=publish or (lambda line: None),
        ),
    )
    return progress, watch
