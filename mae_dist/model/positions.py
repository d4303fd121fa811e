"""Sine-cosine positions, as each of the two papers has them.

They are functions of the grid and the width, so any grid has them, and they are not stored with the weights;
those that somebody trained are, and belong to one grid.
Angles are computed in float64 and rounded once, as in the authors' code. Nothing is interpolated, except
where a model that was trained on one grid is shown another one.

Letters: N tokens of the grid, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from mae_dist.config.geometry import Grid

_LONGEST_WAVELENGTH = 10000.0
"""Over 2 pi, in tokens (arXiv 1706.03762)."""


def sincos_2d(grid: Grid, width: int) -> Tensor:
    """MAE's table, float32 (N, D): [sin column | cos column | sin row | cos row], a quarter of D each.

    The column half comes first because the authors' code hands (column, row) to a function that expects
    (row, column); published weights depend on it. A class token gets no position (zeros in the authors'
    code). Raises ValueError if D is not a multiple of 4, or if the grid has several frames, which this table
    could not tell apart.
    """
    if width % 4:
        raise ValueError(f"sincos_2d positions need a width that is a multiple of 4, got {width}")
    if grid.frames != 1:
        raise ValueError(
            f"sincos_2d positions cannot tell frames apart, got {grid.frames} frames of tokens; "
            "use frames=1, or a size with sincos_1d positions (VideoMAE) for clips"
        )
    wavelengths = _LONGEST_WAVELENGTH ** (torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    token = torch.arange(grid.num_tokens)
    angles = [
        coordinate.to(torch.float64).unsqueeze(1) / wavelengths
        for coordinate in (token % grid.columns, token // grid.columns)
    ]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float()


def sincos_1d(grid: Grid, width: int) -> Tensor:
    """VideoMAE's table, float32 (N, D): sine and cosine interleaved, over the flattened token order.

    Angle of channel j at token n: n / 10000^(2 * (j // 2) / D); even channels sine, odd ones cosine.
    """
    exponents = 2 * (torch.arange(width) // 2).to(torch.float64) / width
    tokens = torch.arange(grid.num_tokens, dtype=torch.float64)
    table = tokens.unsqueeze(1) / _LONGEST_WAVELENGTH**exponents
    table[:, 0::2] = table[:, 0::2].sin()
    table[:, 1::2] = table[:, 1::2].cos()
    return table.float()


def interpolated(positions_ND: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Positions of `grid` stretched over the rows and columns of `wanted`, bicubic, frame by frame, (N', D).

    Raises ValueError for another number of frames.
    """
    if grid.frames != wanted.frames:
        raise ValueError(
            f"positions of {grid.frames} frames of tokens cannot become those of {wanted.frames}"
        )
    maps = rearrange(positions_ND, "(t h w) d -> t d h w", t=grid.frames, h=grid.rows, w=grid.columns)
    size = (wanted.rows, wanted.columns)
    stretched = torch.nn.functional.interpolate(maps, size, mode="bicubic", align_corners=False)
    return rearrange(stretched, "t d h w -> (t h w) d")


def learned(grid: Grid, width: int) -> Tensor:
    """Room for positions that somebody trained, float32 (N, D): zeros, until weights are loaded."""
    return torch.zeros(grid.num_tokens, width)


POSITIONS: dict[str, Callable[[Grid, int], Tensor]] = {
    "sincos_2d": sincos_2d,
    "sincos_1d": sincos_1d,
    "learned": learned,
}
