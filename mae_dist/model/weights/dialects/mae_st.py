"""Checkpoints of mae_st, masked autoencoders as spatiotemporal learners (arXiv 2205.09113).

{"model_state": tensors} or {"model": tensors}. Positions are learned, one table over places and one over
tubelets whose rows are added, and one for the class token. Query, key and value are three layers. The decoder
predicts one frame of each tubelet, which ours cannot; the encoder is converted exactly. In fine-tuning the
layer called norm is that of the mean.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from mae_dist.model.weights.dialects.dialect import MAE_ST as FAMILY
from mae_dist.model.weights.dialects.dialect import Dialect
from mae_dist.model.weights.naming import LAYERS, Naming
from mae_dist.model.weights.stated import Stated

NAMING = Naming(
    kernel="patch_embed.proj",
    has_time=True,
    tensors={"encoder.class_token": "cls_token"},
    modules={"encoder.norm": "norm", "pooled_norm": "norm", "head": "head"},
    stacks={"encoder.blocks": "blocks"},
    layers=LAYERS,
    qkv_weights=("attn.q.weight", "attn.k.weight", "attn.v.weight"),
    qkv_biases=("attn.q.bias", "attn.k.bias", "attn.v.bias"),
    positions={"encoder": "pos_embed"},
)

_SPATIAL, _TEMPORAL, _CLASS = "pos_embed_spatial", "pos_embed_temporal", "pos_embed_class"


def _is_mae_st(names: Collection[str], metadata: Mapping[str, str]) -> bool:
    del metadata
    return {_SPATIAL, _TEMPORAL, _CLASS} <= set(names)


def _with_one_table(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their three tables as one, (1, 1 + N, D): token order is time, row, column."""
    left = dict(tensors)
    spatial, temporal, of_class = (left.pop(name) for name in (_SPATIAL, _TEMPORAL, _CLASS))
    table = (temporal.unsqueeze(2) + spatial.unsqueeze(1)).flatten(1, 2)
    return left | {"pos_embed": torch.cat([of_class, table], dim=1)}


def _input(tensors: Mapping[str, Tensor]) -> Stated:
    """The input, by the two tables; places make a square."""
    tubelet, patch = tensors[f"{NAMING.kernel}.weight"].shape[2:4]
    side = math.isqrt(tensors[_SPATIAL].shape[1]) * patch
    return Stated(frames=tensors[_TEMPORAL].shape[1] * tubelet, height=side, width=side)


def _decoder(names: Collection[str]) -> str | None:
    if "decoder_pred.weight" in names:
        return (
            "its decoder predicts one frame of each tubelet from learned positions, which ours cannot; "
            "take the encoder alone"
        )
    return None


MAE_ST = Dialect(
    name="mae_st",
    family=FAMILY,
    naming=NAMING,
    detect=_is_mae_st,
    prepare=_with_one_table,
    stated=_input,
    obstacle=_decoder,
    decoder_marks=("mask_token", "decoder_"),
)
