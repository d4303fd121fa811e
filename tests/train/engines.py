"""A small pretraining for the tests of engines: task, batches, and every kind of engine by name."""

from __future__ import annotations

import numpy as np
import torch

from mae_dist.config.geometry import Architecture, Grid, Stack
from mae_dist.config.optimisation import OptimConfig
from mae_dist.config.schema import InputConfig, TargetConfig
from mae_dist.data.masking import keep_ids
from mae_dist.model.transformer import recompute_activations
from mae_dist.train.engine import Engine, TorchEngine
from mae_dist.train.param_groups import make_optimizer
from mae_dist.train.tasks import PretrainTask

ARCHITECTURE = Architecture(
    patch=4,
    tubelet=2,
    encoder=Stack(width=24, depth=2, heads=2),
    decoder=Stack(width=16, depth=1, heads=2),
    positions="sincos_1d",
    class_token=False,
    key_bias=False,
    bridge_bias=False,
)
GRID = Grid(frames=2, rows=4, columns=4)
GLOBAL_BATCH = 8
OPTIM = OptimConfig(base_lr=1.0, weight_decay=0.05)
LRS = [1e-3, 3e-3, 2e-3, 1e-3, 1e-3, 5e-4]
DECAY = 0.75


def num_ranks() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def make_task() -> PretrainTask:
    torch.manual_seed(0)
    return PretrainTask(ARCHITECTURE, GRID, InputConfig(), TargetConfig())


def make_engine(
    kind: str,
    *,
    accumulation: int = 1,
    dtype: torch.dtype | None = None,
    recompute: bool = False,
    device: torch.device | None = None,
) -> Engine:
    """kind: torch, or zero, its stage and what is offloaded, as in zero3+parameters."""
    task = make_task().to(device)
    if recompute:
        recompute_activations(task)
    options = {"accumulation": accumulation, "clip_grad_norm": 1.0, "autocast_dtype": dtype, "ema": DECAY}

    def optimizer(module):
        return make_optimizer(module, OPTIM, depth=2)

    if kind == "torch":
        return TorchEngine(task, optimizer, **options)
    from mae_dist.train import zero

    # So small a model would not be cut at all.
    zero.WHOLE_NUMEL = 100
    stage, _, offload = kind.removeprefix("zero").partition("+")
    return zero.ZeroEngine(
        task,
        optimizer,
        stage=int(stage),
        offload=offload or "none",
        micro_batch=GLOBAL_BATCH // (accumulation * num_ranks()),
        **options,
    )


def global_batch(step: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(step)
    samples = range(step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH)
    keep = [keep_ids("tube", GRID, 0.75, seed=0, epoch=0, sample=sample) for sample in samples]
    clips = rng.integers(0, 256, (GLOBAL_BATCH, 4, 16, 16, 3), dtype=np.uint8)
    return {"clips": torch.from_numpy(clips), "keep": torch.from_numpy(np.stack(keep))}


def train_step(engine: Engine, step: int, *, rank: int, accumulation: int = 1) -> float:
    """The loss of the global batch, after an update."""
    world = num_ranks()
    micro_batch = GLOBAL_BATCH // (accumulation * world)
    whole, mean = global_batch(step), torch.zeros(())
    for part in range(accumulation):
        start = (part * world + rank) * micro_batch
        out = engine({name: values[start : start + micro_batch] for name, values in whole.items()})
        engine.backward(out.loss)
        mean += out.loss.detach() / accumulation
    engine.step(LRS[step])
    if world > 1:
        torch.distributed.all_reduce(mean)
    return mean.item() / world
