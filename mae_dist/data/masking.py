"""Which tokens the encoder sees.

One sample in, sorted kept token ids out; pure numpy, drawn where the data is prepared. The two rules round
as their papers' code does, so the same ratio keeps different numbers of tokens (at 0.9 of 8 x 14 x 14:
random 156, tube 160).
Letters: N tokens of the grid, S = rows * columns of one frame, K kept tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mae_dist.config.geometry import Grid
from mae_dist.data import keys

MaskFn = Callable[[Grid, float, np.random.Generator], np.ndarray]


def random_mask(grid: Grid, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Keep any tokens of the grid (MAE, arXiv 2111.06377). K = int(N * (1 - ratio))."""
    return np.sort(rng.permutation(grid.num_tokens)[: int(grid.num_tokens * (1 - ratio))])


def tube_mask(grid: Grid, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Keep the same places in every frame (VideoMAE, arXiv 2203.12602). K = frames * (S - int(ratio * S)).

    A hidden patch is then hidden for the whole clip, so it cannot be copied from a neighbouring frame.
    """
    keep_S = np.sort(rng.permutation(grid.per_frame)[: grid.per_frame - int(ratio * grid.per_frame)])
    return (np.arange(grid.frames)[:, None] * grid.per_frame + keep_S).reshape(-1)


MASKS: dict[str, MaskFn] = {"random": random_mask, "tube": tube_mask}


def keep_ids(kind: str, grid: Grid, ratio: float, *, seed: int, epoch: int, sample: int) -> np.ndarray:
    """Kept ids (K,) int64 of one sample, ascending; depends on (seed, epoch, sample) alone."""
    return MASKS[kind](grid, ratio, keys.rng(seed, epoch, sample, "mask"))
