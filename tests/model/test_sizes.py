"""Parameter counts and costs: as published, and as the real modules have them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mae_dist.config.geometry import ARCHITECTURES, architecture
from mae_dist.model.encoder import patch_values
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.sizes import INPUTS, encoder_multiply_adds, forward_multiply_adds, num_parameters, table

ROWS = {row.name: row for row in table()}
MILLION, BILLION = 1e6, 1e9


@pytest.mark.parametrize(
    ("size", "millions"),
    [
        ("mae_base", 111.91),
        ("mae_large", 329.54),
        ("mae_huge", 657.07),
        ("videomae_small", 24.03),
        ("videomae_base", 94.21),
        ("videomae_large", 343.00),
        ("videomae_huge", 692.49),
    ],
)
def test_parameters_are_as_published(size, millions):
    assert round(ROWS[size].parameters / MILLION, 2) == millions


@pytest.mark.parametrize(
    ("size", "encoder", "decoder"),
    [("mae_base", 85.65, 26.01), ("mae_large", 303.10, 26.14), ("mae_huge", 630.44, 26.18)],
)
def test_parameters_of_the_parts_are_as_published(size, encoder, decoder):
    row = ROWS[size]
    parts = (row.encoder_parameters / MILLION, row.decoder_parameters / MILLION)
    assert [round(part, 2) for part in parts] == [encoder, decoder]


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
def test_pretraining_costs_are_as_published(size, encoder, decoder, digits):
    grid = grid_of(size)
    cost = forward_multiply_adds(ARCHITECTURES[size], grid, ROWS[size].num_kept)
    parts = (cost.encoder / BILLION, cost.decoder / BILLION)
    assert [round(part, digits) for part in parts] == [encoder, decoder]


@pytest.mark.parametrize(
    ("size", "billions"),
    [
        ("videomae_small", 56.9),
        ("videomae_base", 180.3),
        ("videomae_large", 596.8),
        ("videomae_huge", 1191.0),
    ],
)
def test_costs_of_encoding_a_whole_clip_are_as_published(size, billions):
    assert round(ROWS[size].finetune_multiply_adds / BILLION, 1) == billions


@pytest.mark.parametrize(
    ("size", "decoder_depth", "parameters", "multiply_adds"), [("videomae_large", 4, 317.78, 83.0)]
)
def test_a_shallower_decoder_is_counted_as_published(size, decoder_depth, parameters, multiply_adds):
    shallow, grid = architecture(size, decoder_depth=decoder_depth), grid_of(size)
    assert round(num_parameters(shallow, grid).total / MILLION, 2) == parameters
    assert round(forward_multiply_adds(shallow, grid, 160).total / BILLION, 1) == multiply_adds


@pytest.mark.parametrize(
    ("size", "kept"), [("mae_base", 49), ("mae_large", 49), ("mae_huge", 64), ("videomae_base", 160)]
)
def test_kept_tokens_are_those_of_the_papers(size, kept):
    assert ROWS[size].num_kept == kept


def grid_of(size: str):
    frames, height, width = INPUTS[size]
    return ARCHITECTURES[size].grid(frames=frames, height=height, width=width)


def meta_model(size: str) -> MaskedAutoencoder:
    with torch.device("meta"):
        return MaskedAutoencoder(ARCHITECTURES[size], grid_of(size))


@pytest.mark.parametrize("size", sorted(ARCHITECTURES))
def test_counted_parameters_are_those_of_the_real_module(size):
    model, counted = meta_model(size), num_parameters(ARCHITECTURES[size], grid_of(size))
    encoder = sum(p.numel() for p in model.encoder.parameters())
    assert encoder == counted.encoder
    assert sum(p.numel() for p in model.parameters()) - encoder == counted.decoder


@pytest.mark.parametrize("size", sorted(ARCHITECTURES))
def test_counted_costs_are_those_that_torch_counts_in_the_real_module(size):
    model, row = meta_model(size), ROWS[size]
    num_hidden = row.num_tokens - row.num_kept

    def meta(*shape: int, **kind) -> torch.Tensor:
        return torch.empty(1, *shape, device="meta", **kind)

    values = patch_values(ARCHITECTURES[size])
    with FlopCounterMode(display=False) as pretraining, torch.no_grad():
        model(
            meta(row.num_kept, values),
            meta(row.num_kept, dtype=torch.int64),
            meta(num_hidden, dtype=torch.int64),
        )
    assert pretraining.get_total_flops() == 2 * row.pretrain_multiply_adds_executed
    with FlopCounterMode(display=False) as encoding, torch.no_grad():
        model.encode(meta(row.num_tokens, values))
    assert encoding.get_total_flops() == 2 * encoder_multiply_adds(ARCHITECTURES[size], grid_of(size))


def test_the_table_has_every_named_size_and_turns_into_json():
    assert set(ROWS) == set(ARCHITECTURES)
    assert len(json.loads(json.dumps([asdict(row) for row in table()]))) == len(ARCHITECTURES)


def test_sizes_are_listed_without_importing_torch():
    code = "import sys, mae_dist.model.sizes as s; s.table(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
