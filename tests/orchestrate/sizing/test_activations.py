"""What the formulas say is kept is what autograd keeps of the real modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mae_dist.config.geometry import Architecture, Grid
from mae_dist.config.schema import InputConfig, TargetConfig
from mae_dist.model import transformer
from mae_dist.model.classifier import Classifier, LinearProbe
from mae_dist.model.encoder import Encoder, patch_values
from mae_dist.orchestrate.sizing.activations import classifier_activations, pretraining_activations
from mae_dist.train.tasks import PretrainTask
from tests.model.small import SMALL, clips, keep

HALF = {2: True, 4: False}
KINDS = ["mae", "videomae_odd_rectangular"]


@pytest.fixture(autouse=True)
def fused_attention(monkeypatch):
    """A CPU's own way for few tokens keeps scores, which no GPU does."""
    monkeypatch.setattr(transformer, "PLAIN_TOKENS", 0)


def kept_bytes(run: Callable[[int], Tensor], value_bytes: int) -> float:
    """Bytes that autograd keeps of one sample: of two more samples, so that weights cancel out."""

    def kept_by(num_samples: int) -> int:
        storages: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, enabled=HALF[value_bytes]):
                loss = run(num_samples)
            assert loss.requires_grad
        return sum(storages.values())

    return (kept_by(4) - kept_by(2)) / 2


def pretraining(architecture: Architecture, grid: Grid, num_kept: int) -> Callable[[int], Tensor]:
    task = PretrainTask(architecture, grid, InputConfig(), TargetConfig())

    def run(num_samples: int) -> Tensor:
        batch = {"clips": clips(architecture, grid, num_samples=num_samples)}
        return task(batch | {"keep": keep(grid, num_kept, num_samples=num_samples)}).loss

    return run


@pytest.mark.parametrize("value_bytes", [2, 4])
@pytest.mark.parametrize("changed", [{}, {"encoder_mask_token": True}, {"cross_decoder": True}])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pretraining_keeps_what_autograd_keeps(kind, changed, value_bytes):
    architecture, grid = SMALL[kind]
    architecture = replace(architecture, **changed)
    num_kept = grid.num_tokens // 4
    found = kept_bytes(pretraining(architecture, grid, num_kept), value_bytes)
    model = pretraining_activations(architecture, grid, num_kept=num_kept, value_bytes=value_bytes)
    assert model.kept == pytest.approx(found, rel=0.02)


@pytest.mark.parametrize("trainable_blocks", [None, 0.5, 1, 2.5])
@pytest.mark.parametrize("value_bytes", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fine_tuning_keeps_what_autograd_keeps(kind, value_bytes, trainable_blocks):
    architecture, grid = SMALL[kind]
    module = Classifier(Encoder(architecture, grid), 7, trainable_blocks=trainable_blocks)

    def run(num_samples: int) -> Tensor:
        return module(torch.randn(num_samples, grid.num_tokens, patch_values(architecture))).sum()

    model = classifier_activations(
        architecture, grid, trainable_blocks=trainable_blocks, value_bytes=value_bytes
    )
    assert model.kept == pytest.approx(kept_bytes(run, value_bytes), rel=0.03)


def test_a_frozen_encoder_keeps_nothing():
    architecture, grid = SMALL["mae"]
    probe = LinearProbe(Encoder(architecture, grid), 7)
    patches = patch_values(architecture)

    def run(num_samples: int) -> Tensor:
        return probe(torch.randn(num_samples, grid.num_tokens, patches)).sum()

    # A row of features, which the head learns from.
    assert kept_bytes(run, 4) <= 4 * 4 * architecture.encoder.width
    assert classifier_activations(architecture, grid, is_frozen=True).kept == 0


@pytest.mark.parametrize("kind", KINDS)
def test_recomputation_keeps_less_and_a_deeper_model_then_costs_one_input_per_block(kind):
    architecture, grid = SMALL[kind]
    deeper = replace(
        architecture, encoder=replace(architecture.encoder, depth=architecture.encoder.depth + 1)
    )
    plain, shallow, deep = (
        pretraining_activations(which, grid, num_kept=4, recompute=recompute)
        for which, recompute in ((architecture, False), (architecture, True), (deeper, True))
    )
    assert shallow.kept < plain.kept
    num_seen = 4 + int(architecture.class_token)
    assert deep.kept - shallow.kept == 4 * num_seen * architecture.encoder.width
