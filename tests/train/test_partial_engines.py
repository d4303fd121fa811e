"""Fine-tuning of the last blocks with every engine: equal losses, nothing kept of what is frozen."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from mae_dist.config.duration import Duration
from mae_dist.config.optimisation import OptimConfig, TrainConfig
from mae_dist.config.schema import EvaluationConfig, HeadConfig, InputConfig
from mae_dist.train.engine import FullState, TorchEngine, whole_weights
from mae_dist.train.param_groups import make_optimizer
from mae_dist.train.tasks import ClassifyTask
from tests.train.engines import ARCHITECTURE, GLOBAL_BATCH, GRID, LRS, global_batch, num_ranks

KINDS = ["torch", "zero1", "zero2", "zero3"]
OPTIM = OptimConfig(base_lr=1.0, weight_decay=0.05, layer_decay=0.75)
TRAIN = TrainConfig(
    length=Duration(1, "steps"), global_batch=GLOBAL_BATCH, micro_batch=GLOBAL_BATCH, optim=OPTIM
)
HEAD = {"pooled_norm", "head"}
TRAINED = {
    0: HEAD,
    0.5: HEAD | {"blocks.1.mlp_norm", "blocks.1.mlp.expand", "blocks.1.mlp.contract"},
}
"""Layers that are trained with so many blocks."""


def make_task(trainable_blocks: float) -> ClassifyTask:
    torch.manual_seed(0)
    evaluation = EvaluationConfig(
        protocol="finetune", train=TRAIN, head=HeadConfig(dropout=0.0), trainable_blocks=trainable_blocks
    )
    return ClassifyTask(ARCHITECTURE, GRID, InputConfig(), evaluation, num_classes=3, seed=0)


def make_engine(kind: str, trainable_blocks: float):
    options = {"accumulation": 1, "clip_grad_norm": 1.0, "autocast_dtype": None, "ema": 0.75}
    if kind == "torch":
        return TorchEngine(
            make_task(trainable_blocks), lambda module: make_optimizer(module, OPTIM, depth=2), **options
        )
    from mae_dist.train import zero

    # So small a model would not be cut at all.
    zero.WHOLE_NUMEL = 100
    return zero.ZeroEngine(
        make_task(trainable_blocks),
        lambda module: make_optimizer(module, OPTIM, depth=2),
        stage=int(kind.removeprefix("zero")),
        micro_batch=GLOBAL_BATCH // num_ranks(),
        **options,
    )


def train_steps(rank: int, kinds: list[str], trainable_blocks: float) -> dict[str, tuple]:
    """Losses of three steps, trained weights, and the names of all that would be saved, by engine."""
    found = {}
    for kind in kinds:
        engine, losses = make_engine(kind, trainable_blocks), []
        share = GLOBAL_BATCH // num_ranks()
        for step in range(3):
            batch = {
                "clips": global_batch(step)["clips"][rank * share : (rank + 1) * share],
                "label": (torch.arange(GLOBAL_BATCH) % 3)[rank * share : (rank + 1) * share],
                "block": step,
            }
            loss = engine(batch).loss
            engine.backward(loss)
            engine.step(LRS[step])
            mean = loss.detach().clone()
            if num_ranks() > 1:
                torch.distributed.all_reduce(mean)
            losses.append(float(mean) / num_ranks())
        saved = {key.split("/", 2)[2] for key in engine.fragments()}
        state = whole_weights(engine, kind="weight", device=torch.device("cpu"))
        weights = {name: state.flat("weight", name, n).numpy() for name, n in engine.trained.items()}
        found[kind] = losses, weights, saved
        del engine, state
        gc.collect()
    return found


def layers(names) -> set[str]:
    plain = (name.removeprefix("model.").removeprefix("encoder.") for name in names)
    return {name.rsplit(".", 1)[0] for name in plain}


@pytest.fixture(scope="module", params=sorted(TRAINED))
def trainable_blocks(request) -> float:
    return request.param


@pytest.fixture(scope="module")
def reference(trainable_blocks):
    return train_steps(0, ["torch"], trainable_blocks)["torch"]


def test_a_checkpoint_holds_nothing_of_what_is_frozen(reference, trainable_blocks):
    _, weights, saved = reference
    assert layers(weights) == TRAINED[trainable_blocks]
    assert layers(name for name in saved if name.startswith("model.")) == TRAINED[trainable_blocks]


def test_the_optimiser_has_no_state_of_what_is_frozen(trainable_blocks):
    engine = make_engine("torch", trainable_blocks)
    batch = {"clips": global_batch(0)["clips"], "label": torch.arange(GLOBAL_BATCH) % 3, "block": 0}
    engine.backward(engine(batch).loss)
    engine.step(1e-3)
    state = FullState(engine.fragments())
    for name, parameter in engine.module.named_parameters():
        kept = {kind for kind in ("weight", "ema", "exp_avg", "exp_avg_sq") if state.pieces(kind, name)}
        assert kept == ({"weight", "ema", "exp_avg", "exp_avg_sq"} if parameter.requires_grad else set())


@pytest.mark.slow
def test_every_stage_trains_the_reference_and_keeps_nothing_else(reference, trainable_blocks, two_ranks):
    ranks = two_ranks(train_steps, KINDS, trainable_blocks)
    for found in ranks:
        for kind in KINDS:
            losses, weights, _ = found[kind]
            assert losses == pytest.approx(reference[0], rel=1e-6), kind
            for name, values in reference[1].items():
                np.testing.assert_allclose(weights[name], values, atol=2e-6, err_msg=f"{kind} {name}")
    for kind in KINDS:
        saved = set().union(*(found[kind][2] for found in ranks))
        assert layers(name for name in saved if name.startswith("model.")) == TRAINED[trainable_blocks]
