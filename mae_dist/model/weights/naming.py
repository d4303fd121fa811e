"""How one dialect calls the tensors of a vision transformer, and the way from its names to ours and back.

    theirs: one name per tensor, q, k and v fused or not, a convolution over patches, positions stored
    ours:   the state dict of `MaskedAutoencoder`, of `Classifier`, or of an encoder with "encoder." in front

Nothing is left over on either side: a tensor that has no place is a part of another model, and is refused by
its name. Letters: N tokens of the grid, D width, C channels, P values of a patch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from mae_dist.config.geometry import Architecture, Grid, Stack
from mae_dist.model.positions import POSITIONS
from mae_dist.model.weights.header import WeightsError

Kind = Literal["encoder", "masked_autoencoder", "classifier"]
"""What a file of weights holds: the encoder alone, with its decoder, or with a head of classes."""

MODULES = {
    "encoder": ("encoder.norm",),
    "masked_autoencoder": ("encoder.norm", "bridge", "decoder.norm", "decoder.prediction"),
    "classifier": ("head",),
}
"""Our layers outside of the blocks by kind; the norm of a classifier depends on its pooling."""

_ROUNDING = 1e-3
"""Stored tables differ from ours by rounding only, unless somebody trained them."""


LAYERS = {
    "attention_norm": "norm1",
    "attention.output": "attn.proj",
    "mlp_norm": "norm2",
    "mlp.expand": "mlp.fc1",
    "mlp.contract": "mlp.fc2",
}
"""Of a block, timm's names by ours: the authors of the papers took them over. See `Naming.layers`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Naming:
    """Names of one dialect; every mapping is from ours to theirs."""

    kernel: str
    """Their convolution over patches."""
    has_time: bool = False
    """Whether its kernel has a time axis."""
    modules: Mapping[str, str]
    """Layers with a weight and perhaps a bias; those that are missing they do not know."""
    tensors: Mapping[str, str] = field(default_factory=dict)
    """Class token and mask token."""
    stacks: Mapping[str, str]
    """Blocks are numbered behind these names."""
    layers: Mapping[str, str]
    """Inside a block, all with weight and bias."""
    qkv_weights: tuple[str, ...]
    """One name of q, k and v one above the other, or three."""
    qkv_biases: tuple[str, ...]
    """One name, three, or two where the key has none."""
    positions: Mapping[str, str] = field(default_factory=dict)
    """Stored tables by the part whose they are, "encoder" or "decoder"."""

    @property
    def key_bias(self) -> bool:
        """Whether their attention has a bias of the key."""
        return len(self.qkv_biases) != 2

    def kind_of(self, names: Collection[str]) -> Kind:
        """What a file of these tensors is."""
        if f"{self.modules.get('head')}.weight" in names:
            return "classifier"
        return (
            "masked_autoencoder" if f"{self.modules.get('decoder.prediction')}.weight" in names else "encoder"
        )

    def pool_of(self, names: Collection[str]) -> str:
        """Of a classifier: "mean" where it has a norm of what is pooled, else "class_token"."""
        return "mean" if f"{self.modules.get('pooled_norm')}.weight" in names else "class_token"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Which tensors there are: those of this kind of model of this architecture."""

    kind: Kind
    architecture: Architecture
    pool: str = "class_token"
    """Of a classifier."""

    def stacks(self) -> Iterator[tuple[str, Stack]]:
        """Our name and the shape of each stack of blocks."""
        yield "encoder.blocks", self.architecture.encoder
        if self.kind == "masked_autoencoder":
            yield "decoder.blocks", self.architecture.decoder

    def modules(self) -> tuple[str, ...]:
        """Our layers outside of the blocks, but for the patch embedding."""
        norm = {"mean": "pooled_norm", "class_token": "encoder.norm"}[self.pool]
        return MODULES[self.kind] + ((norm,) if self.kind == "classifier" else ())

    def widths(self) -> Iterator[tuple[str, int]]:
        """Name and width of each part that has positions."""
        yield "encoder", self.architecture.encoder.width
        if self.kind == "masked_autoencoder":
            yield "decoder", self.architecture.decoder.width


def to_ours(theirs: Mapping[str, Tensor], naming: Naming, part: Part, grid: Grid) -> dict[str, Tensor]:
    """Their tensors under our names.

    Of positions that are not the fixed ones, an architecture with learned ones takes the table, and what a
    class token has of it is added to the token. Raises WeightsError naming a tensor that is missing or left
    over, and positions that do not fit.
    """
    left = dict(theirs)
    ours: dict[str, Tensor] = {}
    try:
        for our_name, their_name in _plain_names(naming, part).items():
            ours[our_name] = left.pop(their_name)
        for our_block, their_block in _blocks(naming, part):
            ours |= _fused(left, f"{our_block}.attention", their_block, naming, part.architecture)
        kernel = left.pop(f"{naming.kernel}.weight")
        for name, width in part.widths():
            if name in naming.positions:
                table = left.pop(naming.positions[name])
                ours |= _positions_from(table, naming.positions[name], name, width, part.architecture, grid)
    except KeyError as error:
        raise WeightsError(f"no tensor {error} among the {len(theirs)} given") from error
    if left:
        raise WeightsError(f"{len(left)} tensors belong to no part of the model, the first is {min(left)!r}")
    ours["encoder.patch_embedding.weight"] = rearrange(kernel, "d c ... -> d (... c)")
    if "class_position" in ours:
        ours["encoder.class_token"] = ours["encoder.class_token"] + ours.pop("class_position")
    return ours


def to_theirs(ours: Mapping[str, Tensor], naming: Naming, part: Part, grid: Grid) -> dict[str, Tensor]:
    """Our tensors under their names, with their positions; the way back from `to_ours`.

    Every tensor of `ours` finds its place. Gradients may be given instead of weights.
    """
    theirs = {their_name: ours[name] for name, their_name in _plain_names(naming, part).items()}
    for our_block, their_block in _blocks(naming, part):
        theirs |= _split(ours, f"{our_block}.attention", their_block, naming, part.architecture)
    theirs[f"{naming.kernel}.weight"] = _kernel(
        ours["encoder.patch_embedding.weight"], naming, part.architecture
    )
    for name, width in part.widths():
        if name in naming.positions:
            table = ours.get(f"{name}.positions")
            if table is None:
                table = POSITIONS[part.architecture.positions](grid, width)
            if part.architecture.class_token:
                table = torch.cat([table.new_zeros(1, width), table])
            theirs[naming.positions[name]] = table.unsqueeze(0)
    return theirs


def _plain_names(naming: Naming, part: Part) -> dict[str, str]:
    """Ours -> theirs for every tensor that is the same in both."""
    architecture, names = part.architecture, {}
    try:
        for module in part.modules():
            for kind in ("weight", "bias"):
                names[f"{module}.{kind}"] = f"{naming.modules[module]}.{kind}"
        if architecture.class_token:
            names["encoder.class_token"] = naming.tensors["encoder.class_token"]
        if part.kind == "masked_autoencoder":
            names["mask_token"] = naming.tensors["mask_token"]
    except KeyError as error:
        raise WeightsError(f"their model has no {error.args[0]}") from error
    if not architecture.bridge_bias:
        names.pop("bridge.bias", None)
    for our_block, their_block in _blocks(naming, part):
        for our_layer, their_layer in naming.layers.items():
            for kind in ("weight", "bias"):
                names[f"{our_block}.{our_layer}.{kind}"] = f"{their_block}.{their_layer}.{kind}"
    names["encoder.patch_embedding.bias"] = f"{naming.kernel}.bias"
    return names


def _blocks(naming: Naming, part: Part) -> Iterator[tuple[str, str]]:
    for name, stack in part.stacks():
        if name not in naming.stacks:
            raise WeightsError(f"their model has no {name}")
        for index in range(stack.depth):
            yield f"{name}.{index}", f"{naming.stacks[name]}.{index}"


def _fused(
    left: dict[str, Tensor], our_attention: str, their_block: str, naming: Naming, architecture: Architecture
) -> dict[str, Tensor]:
    """Take query, key and value of one block out of `left`, stacked as ours."""
    weight = torch.cat([left.pop(f"{their_block}.{name}") for name in naming.qkv_weights])
    biases = [left.pop(f"{their_block}.{name}") for name in naming.qkv_biases]
    ours = {f"{our_attention}.qkv.weight": weight}
    if architecture.key_bias:
        return ours | {f"{our_attention}.qkv.bias": torch.cat(biases)}
    return ours | {f"{our_attention}.query_bias": biases[0], f"{our_attention}.value_bias": biases[1]}


def _split(
    ours: Mapping[str, Tensor], our_attention: str, their_block: str, naming: Naming, its: Architecture
) -> dict[str, Tensor]:
    """Query, key and value of one block of ours under their names."""
    weight = ours[f"{our_attention}.qkv.weight"]
    if its.key_bias:
        bias = ours[f"{our_attention}.qkv.bias"]
        biases = list(bias.chunk(3)) if len(naming.qkv_biases) == 3 else [bias]
    else:
        biases = [ours[f"{our_attention}.query_bias"], ours[f"{our_attention}.value_bias"]]
    weights = list(weight.chunk(3)) if len(naming.qkv_weights) == 3 else [weight]
    named = zip(naming.qkv_weights + naming.qkv_biases, weights + biases, strict=True)
    return {f"{their_block}.{name}": tensor for name, tensor in named}


def _kernel(weight_DP: Tensor, naming: Naming, architecture: Architecture) -> Tensor:
    """A linear weight (D, P), channel fastest, as a convolution kernel (D, C, [tubelet,] patch, patch)."""
    patch, tubelet = architecture.patch, architecture.tubelet
    kernel = rearrange(weight_DP, "d (t h w c) -> d c t h w", t=tubelet, h=patch, w=patch)
    return kernel if naming.has_time else kernel.squeeze(2)


def _positions_from(
    given: Tensor, their_name: str, name: str, width: int, architecture: Architecture, grid: Grid
) -> dict[str, Tensor]:
    """What of ours a stored table (1, [1 +] N, D) becomes; nothing if it is the fixed one."""
    shape = (1, architecture.class_token + grid.num_tokens, width)
    if tuple(given.shape) != shape:
        raise WeightsError(
            f"{their_name}: positions of shape {tuple(given.shape)} are for another input size; "
            f"this model's are {shape}"
        )
    if architecture.positions == "learned":
        table = given.squeeze(0)
        learned = {f"{name}.positions": table[architecture.class_token :].clone()}
        return learned | ({"class_position": table[:1].unsqueeze(0)} if architecture.class_token else {})
    if not is_fixed(given, POSITIONS[architecture.positions](grid, width)):
        raise WeightsError(
            f"{their_name}: these positions were trained; only the fixed sine-cosine ones are supported"
        )
    return {}


def is_fixed(given: Tensor, table_ND: Tensor) -> bool:
    """Whether a stored table (1, [1 +] N, D) is this one, with zeros for a class token if it has one."""
    table = given.squeeze(0).float().cpu()
    expected = torch.cat([table_ND.new_zeros(len(table) - len(table_ND), table_ND.shape[1]), table_ND])
    return torch.allclose(table, expected, rtol=0, atol=_ROUNDING)
