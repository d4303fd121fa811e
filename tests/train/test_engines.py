"""ZeRO and plain torch train the same losses, and their state fits any world size and either engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mae_dist.config.geometry import Architecture, Grid, Stack
from mae_dist.config.schema import InputConfig, OptimConfig, TargetConfig
from mae_dist.data.masking import keep_ids
from mae_dist.train import checkpoint
from mae_dist.train.checkpoint import Checkpointer, Progress
from mae_dist.train.engine import TorchEngine
from mae_dist.train.param_groups import make_optimizer
from mae_dist.train.tasks import PretrainTask
from tests.ranks import run_ranks

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


def make_engine(kind: str, *, micro_batch: int, accumulation: int):
    torch.manual_seed(0)
    task = PretrainTask(ARCHITECTURE, GRID, InputConfig(), TargetConfig())
    options = {"accumulation": accumulation, "clip_grad_norm": 1.0, "autocast_dtype": None}

    def optimizer(module):
        return make_optimizer(module, OPTIM, depth=2)

    if kind == "torch":
        return TorchEngine(task, optimizer, **options)
    from mae_dist.train.zero import ZeroEngine

    return ZeroEngine(task, optimizer, stage=1, micro_batch=micro_batch, **options)


def global_batch(step: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(step)
    samples = range(step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH)
    keep = [keep_ids("tube", GRID, 0.75, seed=0, epoch=0, sample=sample) for sample in samples]
    clips = rng.integers(0, 256, (GLOBAL_BATCH, 4, 16, 16, 3), dtype=np.uint8)
    return {"clips": torch.from_numpy(clips), "keep": torch.from_numpy(np.stack(keep))}


def train_steps(rank: int, kind: str, micro_batch: int, folder: str, first: int, last: int, save_at: int):
    """Losses of steps first..last-1; resumes from `folder` if first > 0, saves after `save_at` steps."""
    world = torch.distributed.get_world_size()
    accumulation = GLOBAL_BATCH // (micro_batch * world)
    engine = make_engine(kind, micro_batch=micro_batch, accumulation=accumulation)
    saver = Checkpointer(folder, rank=rank, world=world, attempt="test", keep=2)
    if first:
        assert checkpoint.load(folder, first, engine).step == first
    losses = []
    for step in range(first, last):
        whole, mean = global_batch(step), torch.zeros(())
        for part in range(accumulation):
            start = (part * world + rank) * micro_batch
            out = engine({name: values[start : start + micro_batch] for name, values in whole.items()})
            engine.backward(out.loss)
            mean += out.loss.detach() / accumulation
        engine.step(LRS[step])
        torch.distributed.all_reduce(mean)
        losses.append(mean.item() / world)
        if step + 1 == save_at:
            saver.save(engine, Progress(step=save_at, samples=save_at * GLOBAL_BATCH))
    saver.wait()
    weights = {name: values.clone() for name, values in engine.module.state_dict().items()}
    return losses, {name: values.numpy() for name, values in weights.items()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Six uninterrupted steps of plain torch on one rank, saved after three."""
    folder = str(tmp_path_factory.mktemp("reference"))
    ((losses, weights),) = run_ranks(1, train_steps, "torch", GLOBAL_BATCH, folder, 0, 6, 3)
    return losses, weights, folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "world", "micro_batch"),
    [("torch", 2, 4), ("torch", 2, 2), ("zero", 1, 8), ("zero", 2, 4), ("zero", 2, 2)],
)
def test_every_engine_and_split_of_the_batch_trains_the_reference_losses(
    kind, world, micro_batch, reference, tmp_path
):
    losses, _, _ = reference
    found = run_ranks(world, train_steps, kind, micro_batch, str(tmp_path), 0, 6, -1)
    for rank_losses, _ in found:
        assert rank_losses == pytest.approx(losses, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "world", "micro_batch"), [("torch", 1, 8), ("zero", 2, 2)])
def test_a_resumed_training_ends_in_the_same_bits(kind, world, micro_batch, tmp_path):
    whole = run_ranks(world, train_steps, kind, micro_batch, str(tmp_path), 0, 6, 3)
    resumed = run_ranks(world, train_steps, kind, micro_batch, str(tmp_path), 3, 6, -1)
    for (losses, weights), (later_losses, later_weights) in zip(whole, resumed, strict=True):
        assert later_losses == losses[3:]
        for name, values in weights.items():
            np.testing.assert_array_equal(later_weights[name], values, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "world", "micro_batch"), [("zero", 2, 4), ("zero", 1, 8), ("torch", 2, 4)])
def test_state_saved_by_one_engine_and_world_goes_on_in_another(
    kind, world, micro_batch, reference, tmp_path
):
    losses, weights, folder = reference
    for later_losses, later_weights in run_ranks(world, train_steps, kind, micro_batch, folder, 3, 6, -1):
        assert later_losses == pytest.approx(losses[3:], rel=1e-6)
        for name, values in weights.items():
            np.testing.assert_allclose(later_weights[name], values, atol=2e-6, err_msg=name)


@pytest.mark.slow
def test_state_saved_by_two_zero_ranks_goes_on_in_plain_torch_on_one(reference, tmp_path):
    losses, _, _ = reference
    run_ranks(2, train_steps, "zero", 4, str(tmp_path), 0, 3, 3)
    ((later_losses, _),) = run_ranks(1, train_steps, "torch", 8, str(tmp_path), 3, 6, -1)
    assert later_losses == pytest.approx(losses[3:], rel=1e-6)
