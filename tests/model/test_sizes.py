"""Parameter counts as published and as the real modules have them, and the table of named sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch

from mae_dist.config.geometry import ARCHITECTURES, architecture
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.operations import forward_multiply_adds
from mae_dist.model.sizes import INPUTS, num_parameters, table

ROWS = {row.name: row for row in table()}
MILLION = 1e6


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


def test_parameters_of_a_shallower_decoder_are_as_published():
    size = "videomae_large"
    shallow = architecture(size, decoder_depth=4)
    assert round(num_parameters(shallow, grid_of(size)).total / MILLION, 2) == 317.78


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


def test_the_table_has_every_named_size_and_turns_into_json():
    assert set(ROWS) == set(ARCHITECTURES)
    assert len(json.loads(json.dumps([asdict(row) for row in table()]))) == len(ARCHITECTURES)


def test_the_table_costs_what_is_published_and_what_is_done_here():
    row = ROWS["videomae_base"]
    model, grid = ARCHITECTURES["videomae_base"], grid_of("videomae_base")
    executed = forward_multiply_adds(model, grid, num_kept=row.num_kept).total
    assert round(row.pretrain_multiply_adds / 1e9, 2) == 35.44
    assert row.pretrain_multiply_adds_executed == executed
    assert round(row.finetune_multiply_adds / 1e9, 1) == 180.3


def test_sizes_are_listed_without_importing_torch():
    code = "import sys, mae_dist.model.sizes as s; s.table(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
