"""Targets that are made with a file, with every engine: equal losses, and nothing kept of what makes them."""

from __future__ import annotations

import gc

import pytest
import torch

from mae_dist.config.schema import InputConfig
from mae_dist.config.targets import TargetConfig
from mae_dist.model import tokenizer
from mae_dist.model.targets import components
from mae_dist.train.engine import TorchEngine
from mae_dist.train.param_groups import make_optimizer
from mae_dist.train.tasks import PretrainTask
from tests.train.engines import ARCHITECTURE, GLOBAL_BATCH, GRID, OPTIM, num_ranks, train_step

KINDS = ["torch", "zero1", "zero3"]
TARGETS = {
    "token": TargetConfig(kind="token", tokenizer="somewhere", vocabulary=8),
    "pca": TargetConfig(kind="pca", components=5),
}


def make_task(target: str) -> PretrainTask:
    torch.manual_seed(0)
    if target == "token":
        card = tokenizer.TokenizerCard(
            vocabulary=8, width=16, blocks=1, patch=4, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
        )
        made = tokenizer.to_bytes(tokenizer.tokenizer_of(card).state_dict(), card)
    else:
        made = components.to_bytes(components.fit_components([torch.randn(200, 96)], 5)[0])
    return PretrainTask(ARCHITECTURE, GRID, InputConfig(), TARGETS[target], made=made)


def make_engine(kind: str, target: str):
    task = make_task(target)
    options = {"accumulation": 1, "clip_grad_norm": 1.0, "autocast_dtype": None, "ema": 0.75}
    if kind == "torch":
        return TorchEngine(task, lambda module: make_optimizer(module, OPTIM, depth=2), **options)
    from mae_dist.train import zero

    # So small a model would not be cut at all.
    zero.WHOLE_NUMEL = 100
    return zero.ZeroEngine(
        task,
        lambda module: make_optimizer(module, OPTIM, depth=2),
        stage=int(kind.removeprefix("zero")),
        micro_batch=GLOBAL_BATCH // num_ranks(),
        **options,
    )


def train_steps(rank: int, kinds: list[str], target: str) -> dict[str, tuple[list[float], set[str]]]:
    """Losses of three steps, and the names of all that would be saved, by engine."""
    found = {}
    for kind in kinds:
        engine = make_engine(kind, target)
        losses = [train_step(engine, step, rank=rank) for step in range(3)]
        found[kind] = losses, {key.split("/", 2)[2] for key in engine.fragments()}
        del engine
        gc.collect()
    return found


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_checkpoint_holds_nothing_of_what_a_target_is_made_with(target):
    losses, saved = train_steps(0, ["torch"], target)["torch"]
    assert losses[2] != losses[0]
    assert any(name.startswith("model.") for name in saved)
    assert not any(name.startswith("target.") for name in saved)


@pytest.mark.slow
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_stage_trains_the_reference_and_keeps_nothing_else(target, two_ranks):
    reference, _ = train_steps(0, ["torch"], target)["torch"]
    for found in two_ranks(train_steps, KINDS, target):
        for kind in KINDS:
            losses, saved = found[kind]
            assert losses == pytest.approx(reference, rel=1e-6), kind
            assert not any(name.startswith("target.") for name in saved)
