"""Weights of Hugging Face's `ViTMAEForPreTraining` and `VideoMAEForPreTraining`, both ways.

Two dialects of names: "legacy" is what files on the hub carry (transformers up to 4.x) and what version 5
still reads; "v5" is what the models of transformers 5 hold in memory. Both are read; the writer is told.
Shapes cannot reveal the number of heads: the architecture given must be the right one.

A user of our weights there must set layer_norm_eps to 1e-6 (their default is 1e-12), and in VideoMAE also
that of `decoder.norm`, which no config field reaches (1e-5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from mae_dist.config.geometry import Architecture, Grid, Stack
from mae_dist.model.positions import POSITIONS
from mae_dist.model.weights.header import WeightsError

Dialect = Literal["legacy", "v5"]

_MAE = {
    "encoder.class_token": "vit.embeddings.cls_token",
    "encoder.patch_embedding.bias": "vit.embeddings.patch_embeddings.projection.bias",
    "encoder.norm.weight": "vit.layernorm.weight",
    "encoder.norm.bias": "vit.layernorm.bias",
    "bridge.weight": "decoder.decoder_embed.weight",
    "bridge.bias": "decoder.decoder_embed.bias",
    "mask_token": "decoder.mask_token",
    "decoder.norm.weight": "decoder.decoder_norm.weight",
    "decoder.norm.bias": "decoder.decoder_norm.bias",
    "decoder.prediction.weight": "decoder.decoder_pred.weight",
    "decoder.prediction.bias": "decoder.decoder_pred.bias",
}
_VIDEOMAE = {
    "encoder.patch_embedding.bias": "videomae.embeddings.patch_embeddings.projection.bias",
    "encoder.norm.weight": "videomae.layernorm.weight",
    "encoder.norm.bias": "videomae.layernorm.bias",
    "bridge.weight": "encoder_to_decoder.weight",
    "mask_token": "mask_token",
    "decoder.norm.weight": "decoder.norm.weight",
    "decoder.norm.bias": "decoder.norm.bias",
    "decoder.prediction.weight": "decoder.head.weight",
    "decoder.prediction.bias": "decoder.head.bias",
}
_BLOCK_LEGACY = {
    "attention_norm": "layernorm_before",
    "attention.output": "attention.output.dense",
    "mlp_norm": "layernorm_after",
    "mlp.expand": "intermediate.dense",
    "mlp.contract": "output.dense",
}
_BLOCK_V5_MAE = {
    "attention_norm": "layernorm_before",
    "attention.output": "attention.o_proj",
    "mlp_norm": "layernorm_after",
    "mlp.expand": "mlp.fc1",
    "mlp.contract": "mlp.fc2",
}
_PROJECTIONS = ("query", "key", "value")


def from_huggingface(
    theirs: Mapping[str, Tensor], architecture: Architecture, grid: Grid
) -> dict[str, Tensor]:
    """Their state dict, in either dialect, as ours for `MaskedAutoencoder(architecture, grid)`.

    Raises WeightsError naming tensors that are missing or left over, and stored positions
    that are not the fixed ones (weights of a model whose positions were trained, or of another input size).
    """
    dialect = _dialect_of(theirs, architecture)
    left = dict(theirs)
    ours: dict[str, Tensor] = {}
    try:
        for our_name, their_name in _plain_names(architecture, dialect).items():
            ours[our_name] = left.pop(their_name)
        for our_stack, their_stack, stack in _stacks(architecture, dialect):
            for index in range(stack.depth):
                ours |= _fuse(
                    left, f"{our_stack}.{index}.attention", f"{their_stack}.{index}", architecture, dialect
                )
        kernel = left.pop(_kernel_name(architecture))
        for their_name, table in _stored_positions(architecture, grid).items():
            _check_positions(their_name, left.pop(their_name), table)
    except KeyError as error:
        raise WeightsError(f"no tensor {error} among the {len(theirs)} given ({dialect} names)") from error
    if left:
        raise WeightsError(f"{len(left)} tensors belong to no part of the model, the first is {min(left)!r}")
    ours["encoder.patch_embedding.weight"] = _linear_from_kernel(kernel)
    return ours


def to_huggingface(
    ours: Mapping[str, Tensor], architecture: Architecture, grid: Grid, *, dialect: Dialect
) -> dict[str, Tensor]:
    """The state dict of `MaskedAutoencoder(architecture, grid)` under their names, with their positions.

    Every tensor of `ours` finds its place. Gradients may be given instead of weights.
    """
    theirs = {their_name: ours[name] for name, their_name in _plain_names(architecture, dialect).items()}
    for our_stack, their_stack, stack in _stacks(architecture, dialect):
        for index in range(stack.depth):
            theirs |= _split(
                ours, f"{our_stack}.{index}.attention", f"{their_stack}.{index}", architecture, dialect
            )
    kernel = _kernel_from_linear(ours["encoder.patch_embedding.weight"], architecture)
    return theirs | {_kernel_name(architecture): kernel} | _stored_positions(architecture, grid)


def _is_mae(architecture: Architecture) -> bool:
    return architecture.class_token


def _dialect_of(theirs: Mapping[str, Tensor], architecture: Architecture) -> Dialect:
    if _is_mae(architecture):
        return "v5" if "vit.layers.0.layernorm_before.weight" in theirs else "legacy"
    return "v5" if "videomae.encoder.layer.0.attention.attention.query.bias" in theirs else "legacy"


def _stacks(architecture: Architecture, dialect: Dialect) -> list[tuple[str, str, Stack]]:
    """(our prefix, their prefix, its shape) of encoder and decoder blocks."""
    if _is_mae(architecture):
        encoder = "vit.layers" if dialect == "v5" else "vit.encoder.layer"
    else:
        encoder = "videomae.encoder.layer"
    return [
        ("encoder.blocks", encoder, architecture.encoder),
        ("decoder.blocks", "decoder.decoder_layers", architecture.decoder),
    ]


def _plain_names(architecture: Architecture, dialect: Dialect) -> dict[str, str]:
    """Ours -> theirs for every tensor that is the same in both."""
    if architecture.encoder_mask_token:
        raise WeightsError("their models know no encoder that sees mask tokens")
    if architecture.cross_decoder:
        raise WeightsError("their models know no decoder of cross-attention; the encoder alone can be taken")
    names = dict(_MAE if _is_mae(architecture) else _VIDEOMAE)
    block = _BLOCK_V5_MAE if _is_mae(architecture) and dialect == "v5" else _BLOCK_LEGACY
    for our_stack, their_stack, stack in _stacks(architecture, dialect):
        for index in range(stack.depth):
            for our_layer, their_layer in block.items():
                for kind in ("weight", "bias"):
                    names[f"{our_stack}.{index}.{our_layer}.{kind}"] = (
                        f"{their_stack}.{index}.{their_layer}.{kind}"
                    )
    return names


def _projection_names(their_block: str, kind: str, architecture: Architecture, dialect: Dialect) -> list[str]:
    """Their names of query, key and value, of weight or bias; VideoMAE's key has no bias."""
    if _is_mae(architecture) and dialect == "v5":
        return [f"{their_block}.attention.{name[0]}_proj.{kind}" for name in _PROJECTIONS]
    names = [f"{their_block}.attention.attention.{name}.{kind}" for name in _PROJECTIONS]
    if _is_mae(architecture) or kind == "weight":
        return names
    if dialect == "v5":
        return [names[0], names[2]]
    return [f"{their_block}.attention.attention.{letter}_bias" for letter in "qv"]


def _fuse(
    left: dict[str, Tensor],
    our_attention: str,
    their_block: str,
    architecture: Architecture,
    dialect: Dialect,
) -> dict[str, Tensor]:
    """Take query, key and value of one block out of `left`, stacked as ours."""
    weights, biases = (
        [left.pop(name) for name in _projection_names(their_block, kind, architecture, dialect)]
        for kind in ("weight", "bias")
    )
    ours = {f"{our_attention}.qkv.weight": torch.cat(weights)}
    if architecture.key_bias:
        return ours | {f"{our_attention}.qkv.bias": torch.cat(biases)}
    return ours | {f"{our_attention}.query_bias": biases[0], f"{our_attention}.value_bias": biases[1]}


def _split(
    ours: Mapping[str, Tensor],
    our_attention: str,
    their_block: str,
    architecture: Architecture,
    dialect: Dialect,
) -> dict[str, Tensor]:
    """Query, key and value of one block of ours under their names."""
    weights = ours[f"{our_attention}.qkv.weight"].chunk(3)
    if architecture.key_bias:
        biases = list(ours[f"{our_attention}.qkv.bias"].chunk(3))
    else:
        biases = [ours[f"{our_attention}.query_bias"], ours[f"{our_attention}.value_bias"]]
    weight_names, bias_names = (
        _projection_names(their_block, kind, architecture, dialect) for kind in ("weight", "bias")
    )
    return dict(zip(weight_names, weights, strict=True)) | dict(zip(bias_names, biases, strict=True))


def _kernel_name(architecture: Architecture) -> str:
    model = "vit" if _is_mae(architecture) else "videomae"
    return f"{model}.embeddings.patch_embeddings.projection.weight"


def _linear_from_kernel(kernel: Tensor) -> Tensor:
    """A convolution kernel (D, C, [tubelet,] patch, patch) as a linear weight (D, P), channel fastest."""
    return rearrange(kernel, "d c ... -> d (... c)")


def _kernel_from_linear(weight_DP: Tensor, architecture: Architecture) -> Tensor:
    kernel = rearrange(
        weight_DP,
        "d (t h w c) -> d c t h w",
        t=architecture.tubelet,
        h=architecture.patch,
        c=architecture.channels,
    )
    return kernel.squeeze(2) if _is_mae(architecture) else kernel


def _stored_positions(architecture: Architecture, grid: Grid) -> dict[str, Tensor]:
    """The fixed tables that MAE files hold, (1, 1 + N, width) with a row of zeros for the class token."""
    if not _is_mae(architecture):
        return {}
    stored = {
        "vit.embeddings.position_embeddings": architecture.encoder.width,
        "decoder.decoder_pos_embed": architecture.decoder.width,
    }
    tables = {name: POSITIONS[architecture.positions](grid, width) for name, width in stored.items()}
    return {name: torch.cat([torch.zeros(1, t.shape[1]), t]).unsqueeze(0) for name, t in tables.items()}


def _check_positions(name: str, given: Tensor, expected: Tensor) -> None:
    if given.shape != expected.shape:
        raise WeightsError(
            f"{name}: positions of shape {tuple(given.shape)} are for another input size; "
            f"this model's are {tuple(expected.shape)}"
        )
    # Stored tables differ from ours by rounding only, unless somebody trained them.
    if not torch.allclose(given.float().cpu(), expected, rtol=0, atol=1e-3):
        raise WeightsError(
            f"{name}: these positions were trained; only the fixed sine-cosine ones are supported"
        )
