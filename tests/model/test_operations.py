"""Costs are those that the papers publish, those that torch counts in the real modules, and no more.

Published figures are multiply-adds of one sample in billions. They were made by counters that also take in
norms or softmax, which is the difference of a thousandth.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mae_dist.config.geometry import ARCHITECTURES, Architecture, Grid, Stack, architecture
from mae_dist.model.classifier import Classifier, LinearProbe
from mae_dist.model.encoder import Encoder, patch_values
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.operations import (
    MultiplyAdds,
    forward_multiply_adds,
    partial_training_operations,
    training_operations,
)
from mae_dist.model.sizes import INPUTS
from tests.model.small import SMALL

BILLION = 1e9
CLIP = {"frames": 16, "height": 224, "width": 224}
KEPT = {"mae_base": 49, "mae_large": 49, "mae_huge": 64}
"""A quarter of the tokens; VideoMAE keeps 20 of 196 places in 8 slots of time."""
TUBES = 160

# VideoMAE v2 (arXiv 2303.16727): its MLPs, the decoder's too, are 48/11 as wide as their input.
VIDEOMAE_GIANT = replace(
    ARCHITECTURES["videomae_base"],
    patch=14,
    encoder=Stack(width=1408, depth=40, heads=16, mlp_ratio=48 / 11),
    decoder=Stack(width=512, depth=4, heads=8, mlp_ratio=48 / 11),
)


def grid_of(size: str) -> Grid:
    frames, height, width = INPUTS[size]
    return ARCHITECTURES[size].grid(frames=frames, height=height, width=width)


def published(model: Architecture, grid: Grid, **options: int) -> MultiplyAdds:
    return forward_multiply_adds(model, grid, counting="published", **options)


@pytest.mark.parametrize(
    ("size", "encoder", "decoder", "digits"),
    [
        ("mae_base", 4.4, 5.4, 1),
        ("mae_large", 15.4, 5.4, 1),
        ("mae_huge", 41.4, 7.1, 1),
        ("videomae_small", 4.56, 6.98, 2),
        ("videomae_base", 15.91, 19.53, 2),
        ("videomae_large", 52.0, 90.6, 1),
        ("videomae_huge", 105.8, 131.8, 1),
    ],
)
def test_pretraining_costs_are_those_of_the_authors_code(size, encoder, decoder, digits):
    cost = published(ARCHITECTURES[size], grid_of(size), num_kept=KEPT.get(size, TUBES))
    parts = (cost.encoder / BILLION, cost.decoder / BILLION)
    assert [round(part, digits) for part in parts] == [encoder, decoder]


@pytest.mark.parametrize(
    ("num_predicted", "billions"), [(None, 35.48), (1176, 31.63), (784, 25.87), (392, 21.06)]
)
def test_videomae_base_costs_what_videomae_v2_publishes_at_each_decoder_mask(num_predicted, billions):
    """VideoMAE v2, table of decoder masks: none, and running cells that decode 75, 50 and 25% of 1568."""
    grid = grid_of("videomae_base")
    cost = published(ARCHITECTURES["videomae_base"], grid, num_kept=TUBES, num_predicted=num_predicted)
    assert cost.total / BILLION == pytest.approx(billions, abs=0.05)


@pytest.mark.parametrize(("num_predicted", "billions"), [(None, 263.93), (1024, 241.61)])
def test_videomae_giant_costs_what_videomae_v2_publishes(num_predicted, billions):
    """The same table for ViT-g, whose 2048 tokens keep 8 * 26."""
    grid = VIDEOMAE_GIANT.grid(**CLIP)
    cost = published(VIDEOMAE_GIANT, grid, num_kept=208, num_predicted=num_predicted)
    assert cost.total / BILLION == pytest.approx(billions, abs=0.05)


@pytest.mark.parametrize(
    ("size", "billions"),
    [("videomae_small", 57), ("videomae_base", 180), ("videomae_large", 597), ("videomae_huge", 1192)],
)
def test_finetuning_costs_are_those_of_videomae_for_one_view(size, billions):
    """arXiv 2203.12602, comparison on Kinetics-400: GFLOPs of one view, without a decoder."""
    cost = forward_multiply_adds(ARCHITECTURES[size], grid_of(size)).total
    assert cost / BILLION == pytest.approx(billions, rel=0.003)


def test_a_shallower_decoder_costs_less():
    """VideoMAE ViT-L with 4 decoder blocks instead of 12: 83.0 instead of 142.6."""
    grid = grid_of("videomae_large")
    shallow = architecture("videomae_large", decoder_depth=4)
    assert round(published(shallow, grid, num_kept=TUBES).total / BILLION, 1) == 83.0


@pytest.mark.parametrize(("size", "times"), [("mae_base", 2.35), ("mae_large", 3.23), ("mae_huge", 3.59)])
def test_mask_tokens_in_the_encoder_would_cost_several_times_as_much(size, times):
    """arXiv 2111.06377, table 1c: an encoder that sees mask tokens takes 3.3 times the FLOPs with ViT-L."""
    model, grid = ARCHITECTURES[size], grid_of(size)
    sparse = published(model, grid, num_kept=KEPT[size])
    dense = forward_multiply_adds(model, grid).encoder + sparse.decoder
    assert dense / sparse.total == pytest.approx(times, abs=0.01)


@pytest.mark.parametrize(
    ("size", "num_predicted", "embedding", "blocks", "decoder", "total"),
    [
        ("mae_base", None, 0.06, 8.6, 10.4, 19.1),
        ("videomae_base", None, 0.38, 28.1, 38.2, 66.7),
        ("videomae_base", 704, 0.38, 28.1, 17.1, 45.6),
        ("videomae_large", 704, 0.50, 99.2, 28.0, 127.7),
        ("videomae_huge", 704, 0.63, 205.5, 41.6, 247.7),
    ],
)
def test_what_is_needed_leaves_out_hidden_patches_kept_predictions_and_the_last_blocks_kept_tokens(
    size, num_predicted, embedding, blocks, decoder, total
):
    """In billions of operations, two per multiply-add, worked out by hand; 704 is half of what is hidden."""
    model = architecture(size, decoder_depth=8 if size.startswith("mae") else 4)
    cost = forward_multiply_adds(
        model, grid_of(size), num_kept=KEPT.get(size, TUBES), num_predicted=num_predicted
    )
    found = [2 * part / BILLION for part in (cost.embedding, cost.blocks, cost.decoder, cost.total)]
    assert found == pytest.approx([embedding, blocks, decoder, total], rel=0.005, abs=0.005)


@pytest.mark.parametrize("size", sorted(ARCHITECTURES))
def test_needed_is_never_more_than_published(size):
    grid = grid_of(size)
    costs = [
        forward_multiply_adds(
            ARCHITECTURES[size], grid, num_kept=grid.num_tokens // 4, counting=counting
        ).total
        for counting in ("needed", "published")
    ]
    assert costs == sorted(costs)


@pytest.mark.parametrize("size", sorted(ARCHITECTURES))
def test_what_is_needed_is_what_torch_counts_in_the_real_module(size):
    model, grid = ARCHITECTURES[size], grid_of(size)
    num_kept = grid.num_tokens // 4
    num_hidden = grid.num_tokens - num_kept
    with torch.device("meta"):
        module = MaskedAutoencoder(model, grid)
        patches = torch.empty(1, grid.num_tokens, patch_values(model))
        ids = torch.empty(1, grid.num_tokens, dtype=torch.int64)
    with FlopCounterMode(display=False) as pretraining, torch.no_grad():
        module(patches[:, :num_kept], ids[:, :num_kept], ids[:, :num_hidden])
    cost = forward_multiply_adds(model, grid, num_kept=num_kept)
    assert pretraining.get_total_flops() == 2 * cost.total
    with FlopCounterMode(display=False) as encoding, torch.no_grad():
        module.encode(patches)
    assert encoding.get_total_flops() == 2 * forward_multiply_adds(model, grid).total


def operations_of(run) -> int:
    """What torch counts in a forward and backward pass; in bfloat16 attention is two plain products."""
    with FlopCounterMode(display=False) as counted, torch.autocast("cpu", torch.bfloat16):
        output: Tensor = run()
        output.float().square().mean().backward()
    return counted.get_total_flops()


@pytest.mark.parametrize("changed", [{}, {"encoder_mask_token": True}, {"cross_decoder": True}])
@pytest.mark.parametrize("kind", ["mae", "videomae"])
def test_a_pretraining_step_costs_what_torch_counts(kind, changed):
    model, grid = SMALL[kind]
    model = replace(model, **changed)
    num_kept = grid.num_tokens // 4
    module = MaskedAutoencoder(model, grid)
    ids = torch.randperm(grid.num_tokens).unsqueeze(0)
    kept = torch.randn(1, num_kept, patch_values(model))
    found = operations_of(lambda: module(kept, ids[:, :num_kept], ids[:, num_kept:]))
    cost = forward_multiply_adds(model, grid, num_kept=num_kept)
    assert found == training_operations(cost)


@pytest.mark.parametrize("kind", ["mae", "videomae"])
@pytest.mark.parametrize("classifier", [Classifier, LinearProbe])
def test_a_step_of_an_evaluation_costs_what_torch_counts(kind, classifier):
    model, grid = SMALL[kind]
    module = classifier(Encoder(model, grid), 7)
    # Two samples, because a probe's batch norm wants them.
    found = operations_of(lambda: module(torch.randn(2, grid.num_tokens, patch_values(model))))
    cost = forward_multiply_adds(model, grid, num_classes=7)
    assert found == 2 * training_operations(cost, is_encoder_frozen=classifier is LinearProbe)


@pytest.mark.parametrize("trainable_blocks", [0.5, 1, 1.5, 3])
@pytest.mark.parametrize("kind", ["mae", "videomae"])
def test_a_step_of_a_partial_fine_tuning_costs_what_torch_counts(kind, trainable_blocks):
    model, grid = SMALL[kind]
    module = Classifier(Encoder(model, grid), 7, trainable_blocks=trainable_blocks)
    found = operations_of(lambda: module(torch.randn(1, grid.num_tokens, patch_values(model))))
    assert found == partial_training_operations(model, grid, num_classes=7, trainable_blocks=trainable_blocks)


def test_an_encoder_that_sees_mask_tokens_takes_as_many_times_as_the_paper_says():
    """MAE, table 1c: 3.3 times the operations of ViT-L with a decoder of eight blocks."""
    plain = ARCHITECTURES["mae_large"]
    grid = plain.grid(frames=1, height=224, width=224)
    without, seeing = (
        published(replace(plain, encoder_mask_token=sees), grid, num_kept=49).total for sees in (False, True)
    )
    assert seeing / without == pytest.approx(3.3, abs=0.1)
