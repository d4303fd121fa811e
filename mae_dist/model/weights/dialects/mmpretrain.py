"""OpenMMLab's mmpretrain: MAE's encoder as `backbone`, its decoder as `neck`, or a classifier.

{"state_dict": tensors}. The last norm of the encoder is called ln1, that of a mean of tokens ln2. Published
backbones have their names without prefix.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from mae_dist.model.weights.dialects.dialect import MAE as FAMILY
from mae_dist.model.weights.dialects.dialect import Dialect
from mae_dist.model.weights.naming import Naming

NAMING = Naming(
    kernel="backbone.patch_embed.projection",
    tensors={"encoder.class_token": "backbone.cls_token", "mask_token": "neck.mask_token"},
    modules={
        "encoder.norm": "backbone.ln1",
        "bridge": "neck.decoder_embed",
        "decoder.norm": "neck.ln1",
        "decoder.prediction": "neck.decoder_pred",
        "pooled_norm": "backbone.ln2",
        "head": "head.fc",
    },
    stacks={"encoder.blocks": "backbone.layers", "decoder.blocks": "neck.decoder_blocks"},
    layers={
        "attention_norm": "ln1",
        "attention.output": "attn.proj",
        "mlp_norm": "ln2",
        "mlp.expand": "ffn.layers.0.0",
        "mlp.contract": "ffn.layers.1",
    },
    qkv_weights=("attn.qkv.weight",),
    qkv_biases=("attn.qkv.bias",),
    positions={"encoder": "backbone.pos_embed", "decoder": "neck.decoder_pos_embed"},
)


def _is_mmpretrain(names: Collection[str], metadata: Mapping[str, str]) -> bool:
    del metadata
    return {"backbone.cls_token", "backbone.layers.0.ffn.layers.0.0.weight"} <= set(names)


def _with_plain_head(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Its head for transformers lies in a stack of layers, alone unless it has hidden ones."""
    return {name.replace("head.layers.head.", "head.fc."): tensor for name, tensor in tensors.items()}


MMPRETRAIN = Dialect(
    name="mmpretrain",
    family=FAMILY,
    naming=NAMING,
    detect=_is_mmpretrain,
    prepare=_with_plain_head,
    decoder_marks=("neck.",),
)
