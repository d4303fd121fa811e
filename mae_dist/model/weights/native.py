"""Our own export: one safetensors file that says what it needs to be used.

Tensors carry the names of `MaskedAutoencoder.state_dict()`. The model card travels as JSON in the file's
metadata, so weights never lie around without their normalisation. Nothing is unpickled.

An encoder that came without a decoder has a format of its own, the same names, and a card whose decoder is
`NO_DECODER`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from mae_dist.config.geometry import Architecture, Grid, Stack
from mae_dist.model.encoder import Encoder
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.positions import interpolated
from mae_dist.model.transformer import NORM_EPSILON
from mae_dist.model.weights.files import open_weights
from mae_dist.model.weights.header import (
    ENCODER,
    MASKED_AUTOENCODER,
    WeightsError,
    check_format,
    read_card,
)

_ENCODER, _DECODER = "encoder.", "decoder."
_CHANNELS = {1: "grey", 3: "RGB"}

NO_DECODER = Stack(width=0, depth=0, heads=1)
NOT_KNOWN = "not known"
"""Target of an encoder of which nobody says what it was trained to predict."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """What a user of the weights must know; `provenance` is free text by key (data, recipe, revision)."""

    architecture: Architecture
    frames: int
    height: int
    width: int
    mean: tuple[float, ...]
    """Of pixels in [0, 1], per channel; inputs are (pixels - mean) / std."""
    std: tuple[float, ...]
    target: str
    """What the decoder predicts, a kind of target (config/targets.py); perhaps NOT_KNOWN of an encoder."""
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        """Token grid of the input it was trained with."""
        return self.architecture.grid(frames=self.frames, height=self.height, width=self.width)

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON or YAML."""
        return asdict(self)


def card_from_dict(given: Mapping[str, Any]) -> ModelCard:
    """The card that `to_dict` gave. Raises WeightsError naming a missing or unknown field."""
    try:
        architecture = dict(given["architecture"])
        for stack in ("encoder", "decoder"):
            architecture[stack] = Stack(**architecture[stack])
        rest = {name: value for name, value in given.items() if name not in ("architecture", "mean", "std")}
        return ModelCard(
            architecture=Architecture(**architecture),
            mean=tuple(given["mean"]),
            std=tuple(given["std"]),
            **rest,
        )
    except (KeyError, TypeError) as error:
        raise WeightsError(f"the model card cannot be read: {error}") from error


def without_decoder(card: ModelCard) -> ModelCard:
    """The card of the encoder alone."""
    return replace(
        card, architecture=replace(card.architecture, decoder=NO_DECODER, bridge_bias=False, predicted=None)
    )


def to_bytes(weights: Mapping[str, Tensor], card: ModelCard) -> bytes:
    """A safetensors file of `MaskedAutoencoder.state_dict()`, or of its encoder, with its card."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    form = ENCODER if card.architecture.decoder == NO_DECODER else MASKED_AUTOENCODER
    return save(tensors, metadata={"format": form, "card": json.dumps(card.to_dict())})


def from_bytes(
    data: bytes, formats: Sequence[str] = (MASKED_AUTOENCODER,)
) -> tuple[dict[str, Tensor], ModelCard]:
    """The weights and the card of a file made by `to_bytes`, in one of these formats. Raises WeightsError."""
    tensors, metadata = open_weights(data)
    check_format(metadata, *formats)
    return tensors, card_from_dict(json.loads(metadata["card"]))


def load_masked_autoencoder(data: bytes, grid: Grid | None = None) -> tuple[MaskedAutoencoder, ModelCard]:
    """Encoder and decoder of an export, for `grid` (None: the card's own). Raises WeightsError."""
    weights, card = from_bytes(data)
    if not any(name.startswith(_DECODER) for name in weights):
        raise WeightsError("an encoder alone: the file holds no decoder, and nothing can be reconstructed")
    model = MaskedAutoencoder(card.architecture, grid or card.grid)
    _fill(model, weights)
    return model, card


def load_encoder(data: bytes, grid: Grid | None = None) -> tuple[Encoder, ModelCard]:
    """The encoder of an export, for `grid` (None: the card's own). Raises WeightsError.

    Learned positions are stretched over another grid; ValueError if it has another number of frames.
    """
    weights, card = from_bytes(data, (MASKED_AUTOENCODER, ENCODER))
    return encoder_of(weights, card, grid), card


def encoder_of(weights: Mapping[str, Tensor], card: ModelCard, grid: Grid | None = None) -> Encoder:
    """The encoder among `weights`; see `load_encoder`."""
    encoder = Encoder(card.architecture, grid or card.grid)
    own = encoder_tensors(weights)
    if "positions" in own and encoder.grid != card.grid:
        own["positions"] = interpolated(own["positions"], card.grid, encoder.grid)
    _fill(encoder, own)
    return encoder


def encoder_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the encoder among `weights`, under the names that they have in an `Encoder`."""
    return {name.removeprefix(_ENCODER): w for name, w in weights.items() if name.startswith(_ENCODER)}


def has_learned_positions(data: bytes) -> bool:
    """Whether the encoder of an export has positions that were learned; its tensors are not looked at."""
    return read_card(data, MASKED_AUTOENCODER, ENCODER)["architecture"]["positions"] == "learned"


def _fill(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"the weights do not fit the architecture of their model card: {reason}"
        ) from error


def card_markdown(card: ModelCard) -> str:
    """The card for people, as Markdown."""
    architecture = card.architecture
    channels = _CHANNELS.get(architecture.channels, f"{architecture.channels} channels")
    rows = {
        "Input": f"{card.frames} x {card.height} x {card.width} pixels (frames, height, width)",
        "Normalisation": f"(pixels in [0, 1] - {card.mean}) / {card.std}, {channels}",
        "Patch": f"{architecture.tubelet} x {architecture.patch} x {architecture.patch}",
        "Patch vector": "time, row, column, channel; the channel fastest",
        "Encoder": _stack_line(architecture.encoder),
        "Decoder": _stack_line(architecture.decoder),
        "Positions": architecture.positions,
        "Class token": "yes" if architecture.class_token else "no",
        "Layer norm epsilon": f"{NORM_EPSILON:g}",
        "Target": card.target,
        **card.provenance,
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["# Model card", "", "| | |", "|---|---|", *lines, ""])


def _stack_line(stack: Stack) -> str:
    if stack == NO_DECODER:
        return "none"
    return f"width {stack.width}, depth {stack.depth}, heads {stack.heads}, mlp ratio {stack.mlp_ratio:g}"
