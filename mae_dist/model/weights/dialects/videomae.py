"""Checkpoints of the authors of VideoMAE and VideoMAE V2: pretrained, fine-tuned or distilled.

{"model": tensors} or, of DeepSpeed and V2, {"module": tensors}, a folder checkpoint-N with the file
mp_rank_00_model_states.pt. Positions are not stored. A fine-tuned one has the encoder's names without prefix
and the norm of the mean (fc_norm) in place of the encoder's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mae_dist.model.weights.dialects.dialect import VIDEOMAE as FAMILY
from mae_dist.model.weights.dialects.dialect import Dialect
from mae_dist.model.weights.naming import LAYERS, Naming

_QV_BIASES = ("attn.q_bias", "attn.v_bias")

PRETRAINED = Naming(
    kernel="encoder.patch_embed.proj",
    has_time=True,
    tensors={"mask_token": "mask_token"},
    modules={
        "encoder.norm": "encoder.norm",
        "bridge": "encoder_to_decoder",
        "decoder.norm": "decoder.norm",
        "decoder.prediction": "decoder.head",
    },
    stacks={"encoder.blocks": "encoder.blocks", "decoder.blocks": "decoder.blocks"},
    layers=LAYERS,
    qkv_weights=("attn.qkv.weight",),
    qkv_biases=_QV_BIASES,
)
FINE_TUNED = Naming(
    kernel="patch_embed.proj",
    has_time=True,
    modules={"encoder.norm": "norm", "pooled_norm": "fc_norm", "head": "head"},
    stacks={"encoder.blocks": "blocks"},
    layers=LAYERS,
    qkv_weights=("attn.qkv.weight",),
    qkv_biases=_QV_BIASES,
)


def _is_pretrained(names: Collection[str], metadata: Mapping[str, str]) -> bool:
    del metadata
    return {"encoder.patch_embed.proj.weight", "encoder.blocks.0.attn.q_bias"} <= set(names)


def _is_fine_tuned(names: Collection[str], metadata: Mapping[str, str]) -> bool:
    del metadata
    return {"patch_embed.proj.weight", "blocks.0.attn.q_bias"} <= set(names)


VIDEOMAE = Dialect(
    name="VideoMAE (authors)",
    family=FAMILY,
    naming=PRETRAINED,
    detect=_is_pretrained,
    decoder_marks=("mask_token", "decoder.", "encoder_to_decoder."),
)
VIDEOMAE_FINE_TUNED = Dialect(
    name="VideoMAE (authors)",
    family=FAMILY,
    naming=FINE_TUNED,
    detect=_is_fine_tuned,
    decoder_marks=(),
)
DIALECTS = (VIDEOMAE, VIDEOMAE_FINE_TUNED)
