"""Which tokens the encoder sees, and which of the others are predicted.

One sample in, sorted token ids out; pure numpy, drawn where the data is prepared. How many there are is a
matter of `config/masks.py` and the same for every sample.
Letters: N tokens of the grid, S = rows * columns of one frame, K kept tokens, H predicted ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mae_dist.config.geometry import Grid
from mae_dist.config.masks import MaskKind, PredictKind, Rounding, in_running_cell, kept_units
from mae_dist.data import keys

MaskFn = Callable[[Grid, int, np.random.Generator], np.ndarray]
"""Takes how many units are kept; returns token ids in any order."""

BLOCK_PATCHES = 16
BLOCK_ASPECT = 1 / 0.3
"""The smallest block, and how long its sides may be to each other: BEiT, arXiv 2106.08254, algorithm 1."""
MULTI_BLOCK_SHARE = 0.15
MULTI_BLOCK_ASPECT = 1.5
"""What one block covers of a frame, and the same: short-range masks of V-JEPA, arXiv 2404.08471."""


def random_mask(grid: Grid, kept: int, rng: np.random.Generator) -> np.ndarray:
    """Keep any tokens (MAE, arXiv 2111.06377)."""
    return rng.permutation(grid.num_tokens)[:kept]


def block_mask(grid: Grid, kept: int, rng: np.random.Generator) -> np.ndarray:
    """Hide blocks of patches, of several frames where there are several (block-wise in MAE, figure 6)."""
    shape = (grid.frames, grid.rows, grid.columns)
    return np.flatnonzero(~_blocks(shape, grid.num_tokens - kept, rng, share=None))


def grid_mask(grid: Grid, kept: int, rng: np.random.Generator) -> np.ndarray:
    """Keep one patch of each cell, the same of all; which one is drawn (grid-wise in MAE, figure 6)."""
    side = math.isqrt(grid.num_tokens // kept)
    row, column = rng.integers(side, size=2)
    return _ids(grid)[:, row::side, column::side].reshape(-1)


def tube_mask(grid: Grid, kept: int, rng: np.random.Generator) -> np.ndarray:
    """Keep the same places in every frame (VideoMAE, arXiv 2203.12602).

    A hidden patch is then hidden for the whole clip, so it cannot be copied from a neighbouring frame.
    """
    return _in_every_frame(grid, rng.permutation(grid.per_frame)[:kept])


def multi_block_mask(grid: Grid, kept: int, rng: np.random.Generator) -> np.ndarray:
    """Hide large blocks, the same in every frame, until few places are left (V-JEPA, arXiv 2404.08471)."""
    hidden = _blocks((1, grid.rows, grid.columns), grid.per_frame - kept, rng, share=MULTI_BLOCK_SHARE)
    return _in_every_frame(grid, np.flatnonzero(~hidden))


def frame_mask(grid: Grid, kept: int, rng: np.random.Generator) -> np.ndarray:
    """Keep whole frames of tokens, any of them (VideoMAE, table 1b)."""
    return _ids(grid)[rng.permutation(grid.frames)[:kept]].reshape(-1)


def causal_mask(grid: Grid, kept: int, rng: np.random.Generator) -> np.ndarray:
    """Keep the first frames of tokens and hide what follows."""
    return np.arange(kept * grid.per_frame)


MASKS: dict[MaskKind, MaskFn] = {
    "random": random_mask,
    "block": block_mask,
    "grid": grid_mask,
    "tube": tube_mask,
    "multi_block": multi_block_mask,
    "frame": frame_mask,
    "causal": causal_mask,
}


def keep_ids(
    kind: MaskKind,
    grid: Grid,
    ratio: float,
    *,
    rounding: Rounding | None = None,
    seed: int,
    epoch: int,
    sample: int,
) -> np.ndarray:
    """Kept ids (K,) int64 of one sample, ascending; depends on (seed, epoch, sample) alone."""
    kept = kept_units(kind, grid, ratio, rounding)
    return np.sort(MASKS[kind](grid, kept, keys.rng(seed, epoch, sample, "mask")))


def predict_ids(
    kind: PredictKind, grid: Grid, ratio: float, keep_K: np.ndarray, *, seed: int, epoch: int, sample: int
) -> np.ndarray | None:
    """Ids (H,) int64 that the decoder is to predict, ascending; None: all that are hidden.

    `ratio` is the fraction that it leaves out: with hidden, of the tokens that `keep_K` leaves (CrossMAE,
    arXiv 2401.14391); else of all tokens, without a look at what is kept, so that some may be seen, which
    count for no loss. Dual masking of VideoMAE V2, arXiv 2303.16727: running_cell is its method, random and
    frame are of its ablation.
    """
    rng = keys.rng(seed, epoch, sample, "predict")
    if kind == "all":
        return None
    if kind == "hidden":
        hidden = np.setdiff1d(np.arange(grid.num_tokens), keep_K, assume_unique=True)
        return np.sort(rng.permutation(hidden)[: len(hidden) - int(ratio * len(hidden))])
    if kind == "random":
        return np.sort(rng.permutation(grid.num_tokens)[: grid.num_tokens - int(ratio * grid.num_tokens)])
    if kind == "frame":
        frames = np.sort(rng.permutation(grid.frames)[: grid.frames - int(ratio * grid.frames)])
        return _ids(grid)[frames].reshape(-1)
    slots, rows, columns = np.indices(_ids(grid).shape)
    return np.flatnonzero(in_running_cell(slots, rows, columns, ratio))


def _ids(grid: Grid) -> np.ndarray:
    """Token ids by (frame, row, column)."""
    return np.arange(grid.num_tokens).reshape(grid.frames, grid.rows, grid.columns)


def _in_every_frame(grid: Grid, places_S: np.ndarray) -> np.ndarray:
    return (np.arange(grid.frames)[:, None] * grid.per_frame + places_S).reshape(-1)


def _blocks(
    shape: tuple[int, int, int], number: int, rng: np.random.Generator, *, share: float | None
) -> np.ndarray:
    """Blocks that cover exactly `number` cells of `shape`, a bool array; the last one is cut off.

    Each covers at least one cell that none before it did. `share`: of a frame, that each covers; None: any
    size between BLOCK_PATCHES and what is missing.
    """
    covered = np.zeros(shape, dtype=bool)
    while (missing := number - int(covered.sum())) > 0:
        box = _box(shape, missing, rng, share)
        anchor = rng.choice(np.argwhere(~covered))
        starts = [
            rng.integers(max(0, at - length + 1), min(at, whole - length) + 1)
            for at, length, whole in zip(anchor, box, shape, strict=True)
        ]
        inside = np.zeros(shape, dtype=bool)
        inside[tuple(slice(start, start + length) for start, length in zip(starts, box, strict=True))] = True
        covered.reshape(-1)[np.flatnonzero(inside & ~covered)[:missing]] = True
    return covered


def _box(
    shape: tuple[int, int, int], missing: int, rng: np.random.Generator, share: float | None
) -> tuple[int, int, int]:
    """Lengths of one block along time, height and width."""
    frames, rows, columns = shape
    if share is None:
        depth, most = int(rng.integers(1, frames + 1)), BLOCK_ASPECT
        area = rng.uniform(BLOCK_PATCHES, max(BLOCK_PATCHES, missing)) / depth
    else:
        depth, most = frames, MULTI_BLOCK_ASPECT
        area = share * rows * columns
    aspect = math.exp(rng.uniform(-math.log(most), math.log(most)))
    height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    return depth, min(max(height, 1), rows), min(max(width, 1), columns)
