"""Checkpoints of the authors of MAE: encoder alone, with decoder (full, visualize), or fine-tuned.

{"model": tensors}, in training with optimiser, epoch and arguments beside it. Both position tables lie there;
in fine-tuning the encoder's is trained. Fine-tuned ones pool by mean before a norm of their own (fc_norm), or
take the class token. The files called visualize were trained on pixels, all others on normalised patches;
names and shapes are the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mae_dist.model.weights.dialects.dialect import MAE as FAMILY
from mae_dist.model.weights.dialects.dialect import Dialect
from mae_dist.model.weights.naming import LAYERS, Naming

DECODER = ("mask_token", "decoder_")

NAMING = Naming(
    kernel="patch_embed.proj",
    tensors={"encoder.class_token": "cls_token", "mask_token": "mask_token"},
    modules={
        "encoder.norm": "norm",
        "bridge": "decoder_embed",
        "decoder.norm": "decoder_norm",
        "decoder.prediction": "decoder_pred",
        "pooled_norm": "fc_norm",
        "head": "head",
    },
    stacks={"encoder.blocks": "blocks", "decoder.blocks": "decoder_blocks"},
    layers=LAYERS,
    qkv_weights=("attn.qkv.weight",),
    qkv_biases=("attn.qkv.bias",),
    positions={"encoder": "pos_embed", "decoder": "decoder_pos_embed"},
)


def is_vision_transformer(names: Collection[str]) -> bool:
    """Whether tensors have the names that the authors of MAE took over from timm."""
    return {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.bias"} <= set(names)


def _is_mae(names: Collection[str], metadata: Mapping[str, str]) -> bool:
    marked = metadata.get("container") == "model" or "decoder_embed.weight" in names
    return marked and is_vision_transformer(names)


def probe_head(names: Collection[str]) -> str | None:
    """A linear probe of the authors norms what goes into its head by statistics of a batch."""
    if "head.0.running_mean" in names:
        return (
            "it is a linear probe, whose head is behind a batch norm that our classifier does not have; "
            "take the encoder from the pretraining's file"
        )
    return None


MAE = Dialect(
    name="MAE (authors)",
    family=FAMILY,
    naming=NAMING,
    detect=_is_mae,
    obstacle=probe_head,
    decoder_marks=DECODER,
)
