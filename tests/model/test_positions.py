"""Position tables against independent numpy ones, written loop by loop from the papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest

from mae_dist.config.geometry import ARCHITECTURES, Grid
from mae_dist.model.positions import POSITIONS, sincos_1d, sincos_2d

GRIDS = [Grid(frames=1, rows=3, columns=5), Grid(frames=1, rows=14, columns=14)]


@pytest.mark.parametrize("grid", GRIDS)
def test_mae_positions_are_column_then_row_sine_then_cosine(grid):
    width = 24
    expected = np.zeros((grid.num_tokens, width))
    for row in range(grid.rows):
        for column in range(grid.columns):
            vector = []
            for coordinate in (column, row):
                angles = [coordinate / 10000 ** (i / (width / 4)) for i in range(width // 4)]
                vector += [np.sin(a) for a in angles] + [np.cos(a) for a in angles]
            expected[row * grid.columns + column] = vector
    np.testing.assert_allclose(sincos_2d(grid, width).numpy(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "grid", [*GRIDS, Grid(frames=3, rows=2, columns=5), Grid(frames=8, rows=14, columns=14)]
)
def test_videomae_positions_interleave_sine_and_cosine_over_the_flattened_grid(grid):
    width = 10
    expected = np.zeros((grid.num_tokens, width))
    for token in range(grid.num_tokens):
        for j in range(width):
            angle = token / np.power(10000.0, 2 * (j // 2) / width)
            expected[token, j] = np.cos(angle) if j % 2 else np.sin(angle)
    np.testing.assert_allclose(sincos_1d(grid, width).numpy(), expected, rtol=0, atol=1e-7)


def test_every_kind_of_positions_that_a_size_names_exists():
    assert {named.positions for named in ARCHITECTURES.values()} | {"learned"} == set(POSITIONS)


def test_mae_positions_refuse_several_frames_and_say_what_would_be_right():
    with pytest.raises(ValueError, match=r"got 2 frames of tokens; use frames=1, or a size with sincos_1d"):
        sincos_2d(Grid(frames=2, rows=2, columns=2), 8)


def test_mae_positions_refuse_a_width_that_four_does_not_divide():
    with pytest.raises(ValueError, match="multiple of 4, got 10"):
        sincos_2d(GRIDS[0], 10)
