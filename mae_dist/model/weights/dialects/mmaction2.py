"""OpenMMLab's mmaction2: a fine-tuned VideoMAE as `backbone` and `cls_head`, or its backbone alone.

{"state_dict": tensors}. Unlike the authors' files these hold the fixed positions, as a buffer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mae_dist.model.weights.dialects.dialect import VIDEOMAE as FAMILY
from mae_dist.model.weights.dialects.dialect import Dialect
from mae_dist.model.weights.naming import LAYERS, Naming

NAMING = Naming(
    kernel="backbone.patch_embed.projection",
    has_time=True,
    modules={
        "encoder.norm": "backbone.norm",
        "pooled_norm": "backbone.fc_norm",
        "head": "cls_head.fc_cls",
    },
    stacks={"encoder.blocks": "backbone.blocks"},
    layers=LAYERS | {"mlp.expand": "mlp.layers.0.0", "mlp.contract": "mlp.layers.1"},
    qkv_weights=("attn.qkv.weight",),
    qkv_biases=("attn.q_bias", "attn.v_bias"),
    positions={"encoder": "backbone.pos_embed"},
)


def _is_mmaction2(names: Collection[str], metadata: Mapping[str, str]) -> bool:
    del metadata
    return {"backbone.blocks.0.mlp.layers.0.0.weight", "backbone.blocks.0.attn.q_bias"} <= set(names)


MMACTION2 = Dialect(
    name="mmaction2",
    family=FAMILY,
    naming=NAMING,
    detect=_is_mmaction2,
    decoder_marks=(),
)
