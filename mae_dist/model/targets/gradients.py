"""Histograms of oriented gradients: where edges run in every cell of a picture, the target of MaskFeat.

    pixels -> differences to the right and down (Sobel's filters, the picture mirrored at its rim)
    -> of every cell of 8 x 8 pixels and channel the strength of edges in 9 orientations, of length 1 together

As arXiv 2112.09133, section 3.2, and the authors' code have it (SlowFast, operators.py), without that code's
Gaussian weighting of a cell's pixels, which the paper does not have. MaskFeat predicts them of one frame of a
patch; here all frames of a patch are described, one after the other.

Letters: B samples, T frames, H, W pixels, C channels, N tokens of the grid, V values of one.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from mae_dist.config.targets import HOG_BINS, HOG_CELL


def oriented_gradients(clips_BTHWC: Tensor, *, patch: int, tubelet: int) -> Tensor:
    """Histograms of every token, float32 (B, N, V), of uint8 clips.

    V orders frame, row and column of the cell, channel, orientation from 0 to 180 degrees.

    `patch` must be a multiple of 8. Bytes have exact differences, so that no rounding turns an upright edge.
    """
    pictures = rearrange(clips_BTHWC, "b t h w c -> (b t c) h w").float()
    padded = F.pad(pictures, (1, 1, 1, 1), mode="reflect")
    down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    across = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    right, below = down[..., 2:] - down[..., :-2], across[:, 2:] - across[:, :-2]
    strength = torch.hypot(right, below)
    turn = torch.atan2(below, right) * (HOG_BINS / math.pi)
    orientation = turn.floor().long() % HOG_BINS
    # One orientation after the other: all at once would take nine times the memory, and adding each pixel to
    # its place in an order of its own would give other sums every time on a GPU.
    cells = torch.stack(
        [_cell_sums(strength * (orientation == number)) for number in range(HOG_BINS)], dim=-1
    )
    return rearrange(
        F.normalize(cells, dim=-1),
        "(b t f c) (h i) (w j) k -> b (t h w) (f i j c k)",
        b=len(clips_BTHWC),
        f=tubelet,
        c=clips_BTHWC.shape[-1],
        i=patch // HOG_CELL,
        j=patch // HOG_CELL,
    )


def _cell_sums(values: Tensor) -> Tensor:
    return values.unflatten(-1, (-1, HOG_CELL)).unflatten(-3, (-1, HOG_CELL)).sum((-3, -1))
