"""Patches: how pixels are laid out as tokens, and how some of the tokens are picked.

An image is the clip of one frame. Token order is time, row, column; inside a patch the order is time, row,
column, channel with the channel fastest. MAE and VideoMAE share both orders, so no checkpoint of either needs
a permutation of its output layer.

Letters: B samples, T frames, H, W pixels, C channels, N tokens of the grid, K kept, P values of one patch.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from mae_dist.config.geometry import Grid

_PIXELS = "b (t pt) (h ph) (w pw) c"
_PATCHES = "b (t h w) (pt ph pw c)"


def patchify(clips_BTHWC: Tensor, *, patch: int, tubelet: int) -> Tensor:
    """Cut clips (B, T, H, W, C) of any dtype into patches (B, N, P), P = tubelet * patch * patch * C.

    T must be a multiple of `tubelet`, H and W of `patch`; `Architecture.grid` checks that for a recipe.
    """
    return rearrange(clips_BTHWC, f"{_PIXELS} -> {_PATCHES}", pt=tubelet, ph=patch, pw=patch)


def unpatchify(patches_BNP: Tensor, grid: Grid, *, patch: int, tubelet: int) -> Tensor:
    """Put patches (B, N, P) back together as clips (B, T, H, W, C); the inverse of `patchify`."""
    return rearrange(
        patches_BNP,
        f"{_PATCHES} -> {_PIXELS}",
        t=grid.frames,
        h=grid.rows,
        w=grid.columns,
        pt=tubelet,
        ph=patch,
        pw=patch,
    )


def gather_tokens(x_BND: Tensor, ids_BK: Tensor) -> Tensor:
    """Rows `ids_BK` (int64) of each sample: (B, N, D) of any dtype -> (B, K, D), in the order of the ids.

    Copies whole rows, which `torch.gather` does not: ten times faster on a CPU for uint8 patches.
    """
    num_samples, num_tokens, width = x_BND.shape
    starts_B1 = torch.arange(0, num_samples * num_tokens, num_tokens, device=ids_BK.device).unsqueeze(1)
    return (
        x_BND.reshape(-1, width).index_select(0, (ids_BK + starts_B1).flatten()).view(num_samples, -1, width)
    )


def is_among(ids_BH: Tensor, others_BK: Tensor, num_tokens: int) -> Tensor:
    """Which of `ids_BH` are among `others_BK` of the same sample: bool (B, H); ids are below `num_tokens`."""
    is_other_BN = torch.zeros(len(ids_BH), num_tokens, dtype=torch.bool, device=ids_BH.device)
    return is_other_BN.scatter_(1, others_BK, True).gather(1, ids_BH)


def hidden_ids(keep_BK: Tensor, num_tokens: int) -> Tensor:
    """The ids that are not kept, ascending: (B, K) -> (B, num_tokens - K), int64.

    Shapes are known beforehand (no `nonzero`), so an accelerator need not wait for the host. The ids of one
    row of `keep_BK` must differ from each other.
    """
    num_samples, num_kept = keep_BK.shape
    num_hidden = num_tokens - num_kept
    is_hidden_BN = torch.ones(num_samples, num_tokens, dtype=torch.bool, device=keep_BK.device)
    is_hidden_BN.scatter_(1, keep_BK, False)
    # A hidden token goes to the place that its rank among the hidden ones says; kept ones share a column
    # behind the last place, which is cut off.
    place_BN = torch.where(is_hidden_BN, is_hidden_BN.cumsum(1) - 1, num_hidden)
    ids_BN = torch.arange(num_tokens, device=keep_BK.device).expand(num_samples, -1)
    return torch.empty_like(ids_BN[:, : num_hidden + 1]).scatter_(1, place_BN, ids_BN)[:, :num_hidden]
