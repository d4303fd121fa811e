"""float16 with a loss scale: the same training to its precision, and overflowing gradients change nothing."""

from __future__ import annotations

import gc
import math

import pytest
import torch

from mae_dist.train.engine import FullState, whole_weights
from mae_dist.train.scaling import FIRST_SCALE
from tests.train.engines import LRS, global_batch, make_engine, train_step

pytestmark = pytest.mark.slow

KINDS = ["torch", "zero1", "zero3", "zero2+optimizer"]
STEPS = 3


def weights_of(engine) -> list[torch.Tensor]:
    whole = whole_weights(engine, kind="weight", device=torch.device("cpu"))
    return [whole.flat("weight", name, numel) for name, numel in engine.trained.items()]


def train_in_float16(rank: int, kind: str) -> dict:
    found = {}
    half = make_engine(kind, dtype=torch.float16)
    found["losses"] = [train_step(half, step, rank=rank) for step in range(STEPS)]
    found["skipped before"], found["scale before"] = half.scale.skipped_updates, half.scale.value

    before = weights_of(half)
    part = {name: values[4 * rank : 4 * rank + 4] for name, values in global_batch(STEPS).items()}
    out = half(part)
    # Only one rank meets the overflow; the other has to skip with it.
    half.backward(out.loss * (math.inf if rank == 1 else 1.0))
    found["norm"] = float(half.step(LRS[0]))
    found["unchanged"] = all(torch.equal(*pair) for pair in zip(weights_of(half), before, strict=True))
    found["skipped"], found["scale"] = half.scale.skipped_updates, half.scale.value
    train_step(half, STEPS, rank=rank)
    found["goes on"] = not torch.equal(weights_of(half)[0], before[0])
    found["saved"] = FullState(half.fragments()).scalars if rank == 0 else {}
    del half, out
    gc.collect()
    return found


def train_all(rank: int) -> dict[str, dict]:
    reference = make_engine("torch")
    losses = [train_step(reference, step, rank=rank) for step in range(STEPS)]
    return {"float32": {"losses": losses}} | {kind: train_in_float16(rank, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def trained(two_ranks):
    return two_ranks(train_all)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_float32_to_half_precision(kind, trained):
    for found in trained:
        losses, expected = found[kind]["losses"], found["float32"]["losses"]
        assert losses == pytest.approx(expected, rel=2e-3)
        assert losses != expected


@pytest.mark.parametrize("kind", KINDS)
def test_all_ranks_skip_an_update_whose_gradient_overflows_on_one(kind, trained):
    for rank in trained:
        found = rank[kind]
        assert found["unchanged"]
        assert found["norm"] == math.inf
        assert found["skipped"] == found["skipped before"] + 1
        assert found["scale"] == found["scale before"] / 2
        assert found["goes on"]


@pytest.mark.parametrize("kind", KINDS)
def test_scale_and_skipped_updates_are_saved(kind, trained):
    saved = trained[0][kind]["saved"]
    assert saved["loss_scale"] == trained[0][kind]["scale"] <= FIRST_SCALE / 2
    assert saved["skipped_updates"] == trained[0][kind]["skipped"]
