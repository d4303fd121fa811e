"""Hugging Face's ViTMAE and VideoMAE, and ViT and VideoMAE as classifiers, both ways.

Two dialects of names: "legacy" is what files on the hub carry (transformers up to 4.x) and what version 5
still reads; "v5" is what the models of transformers 5 hold in memory. Both are read; the writer is told.
Shapes cannot reveal the number of heads: the architecture given must be the right one.

A user of our weights there must set layer_norm_eps to 1e-6 (their default is 1e-12); no config field reaches
`decoder.norm` and `fc_norm` of VideoMAE, which have torch's 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor

from mae_dist.config.geometry import Architecture, Grid
from mae_dist.model.weights.dialects import dialect as families
from mae_dist.model.weights.dialects.dialect import Dialect
from mae_dist.model.weights.header import WeightsError
from mae_dist.model.weights.naming import Naming, Part, to_ours, to_theirs

Version = Literal["legacy", "v5"]

_LAYERS_LEGACY = {
    "attention_norm": "layernorm_before",
    "attention.output": "attention.output.dense",
    "mlp_norm": "layernorm_after",
    "mlp.expand": "intermediate.dense",
    "mlp.contract": "output.dense",
}
_PROJECTIONS = tuple(f"attention.attention.{name}" for name in ("query", "key", "value"))
_WEIGHTS, _BIASES = (tuple(f"{name}.{kind}" for name in _PROJECTIONS) for kind in ("weight", "bias"))

VIT_MAE_LEGACY = Naming(
    kernel="vit.embeddings.patch_embeddings.projection",
    tensors={"encoder.class_token": "vit.embeddings.cls_token", "mask_token": "decoder.mask_token"},
    modules={
        "encoder.norm": "vit.layernorm",
        "bridge": "decoder.decoder_embed",
        "decoder.norm": "decoder.decoder_norm",
        "decoder.prediction": "decoder.decoder_pred",
        "head": "classifier",
    },
    stacks={"encoder.blocks": "vit.encoder.layer", "decoder.blocks": "decoder.decoder_layers"},
    layers=_LAYERS_LEGACY,
    qkv_weights=_WEIGHTS,
    qkv_biases=_BIASES,
    positions={"encoder": "vit.embeddings.position_embeddings", "decoder": "decoder.decoder_pos_embed"},
)
VIT_MAE_V5 = replace(
    VIT_MAE_LEGACY,
    stacks={"encoder.blocks": "vit.layers", "decoder.blocks": "decoder.decoder_layers"},
    layers=_LAYERS_LEGACY
    | {"attention.output": "attention.o_proj", "mlp.expand": "mlp.fc1", "mlp.contract": "mlp.fc2"},
    qkv_weights=tuple(f"attention.{letter}_proj.weight" for letter in "qkv"),
    qkv_biases=tuple(f"attention.{letter}_proj.bias" for letter in "qkv"),
)
VIDEOMAE_LEGACY = Naming(
    kernel="videomae.embeddings.patch_embeddings.projection",
    has_time=True,
    tensors={"mask_token": "mask_token"},
    modules={
        "encoder.norm": "videomae.layernorm",
        "bridge": "encoder_to_decoder",
        "decoder.norm": "decoder.norm",
        "decoder.prediction": "decoder.head",
        "pooled_norm": "fc_norm",
        "head": "classifier",
    },
    stacks={"encoder.blocks": "videomae.encoder.layer", "decoder.blocks": "decoder.decoder_layers"},
    layers=_LAYERS_LEGACY,
    qkv_weights=_WEIGHTS,
    qkv_biases=("attention.attention.q_bias", "attention.attention.v_bias"),
)
VIDEOMAE_V5 = replace(VIDEOMAE_LEGACY, qkv_biases=(_BIASES[0], _BIASES[2]))

NAMINGS: dict[tuple[bool, Version], Naming] = {
    (True, "legacy"): VIT_MAE_LEGACY,
    (True, "v5"): VIT_MAE_V5,
    (False, "legacy"): VIDEOMAE_LEGACY,
    (False, "v5"): VIDEOMAE_V5,
}
"""By whether there is a class token."""


def from_huggingface(
    theirs: Mapping[str, Tensor], architecture: Architecture, grid: Grid
) -> dict[str, Tensor]:
    """Their state dict, in either dialect, as ours for `MaskedAutoencoder(architecture, grid)`.

    Raises WeightsError naming tensors that are missing or left over, and stored positions
    that are not the fixed ones (weights of a model whose positions were trained, or of another input size).
    """
    mark = _mark(NAMINGS[architecture.class_token, "v5"])
    version: Version = "v5" if mark in theirs else "legacy"
    naming = NAMINGS[architecture.class_token, version]
    check_decoder(architecture)
    return to_ours(theirs, naming, Part(kind="masked_autoencoder", architecture=architecture), grid)


def to_huggingface(
    ours: Mapping[str, Tensor], architecture: Architecture, grid: Grid, *, dialect: Version
) -> dict[str, Tensor]:
    """The state dict of `MaskedAutoencoder(architecture, grid)` under their names, with their positions.

    Every tensor of `ours` finds its place. Gradients may be given instead of weights.
    """
    check_decoder(architecture)
    naming = NAMINGS[architecture.class_token, dialect]
    return to_theirs(ours, naming, Part(kind="masked_autoencoder", architecture=architecture), grid)


def check_decoder(architecture: Architecture) -> None:
    """Raise WeightsError for decoders that only we have."""
    if architecture.encoder_mask_token:
        raise WeightsError("their models know no encoder that sees mask tokens")
    if architecture.cross_decoder:
        raise WeightsError("their models know no decoder of cross-attention; the encoder alone can be taken")


def with_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names of a bare `ViTMAEModel`, `ViTModel` or `VideoMAEModel` as those of the models around them."""
    kernel = tensors.get("embeddings.patch_embeddings.projection.weight")
    if kernel is None:
        return dict(tensors)
    prefix = "videomae." if kernel.ndim == 5 else "vit."
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _mark(naming: Naming) -> str:
    """A tensor that the first block has in this dialect of names alone."""
    return f"{naming.stacks['encoder.blocks']}.0.{naming.qkv_biases[0]}"


def _has(mark: str) -> Callable[[Collection[str], Mapping[str, str]], bool]:
    return lambda names, metadata: mark in names


def _dialect(name: str, family: families.Family, naming: Naming) -> Dialect:
    return Dialect(
        name=name,
        family=family,
        naming=naming,
        detect=_has(_mark(naming)),
        decoder_marks=("mask_token", "decoder.", "encoder_to_decoder."),
    )


DIALECTS = (
    _dialect("Hugging Face ViTMAE", families.MAE, VIT_MAE_LEGACY),
    _dialect("Hugging Face ViTMAE (version 5 names)", families.MAE, VIT_MAE_V5),
    _dialect("Hugging Face VideoMAE", families.VIDEOMAE, VIDEOMAE_LEGACY),
    _dialect("Hugging Face VideoMAE (version 5 names)", families.VIDEOMAE, VIDEOMAE_V5),
)
