"""The dialects of checkpoints, one file each: names, what is published of the models, how to tell them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mae_dist.model.weights.dialects import (
    huggingface,
    mae,
    mae_st,
    mmaction2,
    mmpretrain,
    timm,
    videomae,
)
from mae_dist.model.weights.dialects.dialect import Dialect
from mae_dist.model.weights.header import WeightsError

DIALECTS: tuple[Dialect, ...] = (
    mae_st.MAE_ST,
    *huggingface.DIALECTS,
    mmpretrain.MMPRETRAIN,
    mmaction2.MMACTION2,
    *videomae.DIALECTS,
    mae.MAE,
    timm.TIMM,
)
"""In the order in which they are asked: what has marks of its own comes before what is like many others."""

_PREFIXES = (
    ("backbone.patch_embed.proj.weight", "backbone.", ""),
    ("patch_embed.projection.weight", "", "backbone."),
)
"""Where a tensor of this name is, one prefix is taken from all names that have it, or put in front."""


def detect(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[Dialect, dict[str, Tensor]]:
    """Whose tensors these are, and the tensors under the names that its file speaks of.

    Raises WeightsError with the dialects that there are.
    """
    named = _prefixed(tensors)
    for dialect in DIALECTS:
        if dialect.detect(named, metadata):
            return dialect, named
    some = ", ".join(sorted(named)[:4])
    raise WeightsError(
        f"{len(named)} tensors of no dialect known here ({some}, ...); "
        f"known are {', '.join(dict.fromkeys(d.name for d in DIALECTS))}"
    )


def _prefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = huggingface.with_prefix(tensors)
    for mark, without, added in _PREFIXES:
        if mark in named:
            named = {added + name.removeprefix(without): tensor for name, tensor in named.items()}
    return named
