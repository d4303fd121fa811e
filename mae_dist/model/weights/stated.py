"""What tensors cannot say of themselves: heads, input, normalisation, target; and who states it.

Shapes do not reveal the number of heads, nor positions that are not stored the size of the input. The sources
are asked in this order: the user, the card of an export of ours, the files beside the weights, the arguments
that a checkpoint was trained with, and what is published of the dialect's models.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mae_dist.model.weights.header import WeightsError
from mae_dist.model.weights.native import ModelCard

CARD = "mae_dist.card"
"""Where exports in other dialects carry their card, as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """None where a source says nothing."""

    encoder_heads: int | None = None
    decoder_heads: int | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    target: str | None = None
    """A key of `TARGETS`."""
    classes: tuple[str, ...] | None = None
    epsilon: float | None = None
    """Of the layer norms."""
    provenance: Mapping[str, str] | None = None

    def otherwise(self, other: Stated) -> Stated:
        """This, and what `other` says where this says nothing."""
        names = [field.name for field in fields(self)]
        own = {name: getattr(self, name) for name in names}
        return Stated(**{name: getattr(other, name) if own[name] is None else own[name] for name in names})

    def unsaid(self, names: tuple[str, ...]) -> list[str]:
        """Those of `names` of which nothing is said."""
        return [name for name in names if getattr(self, name) is None]


def of_card(card: ModelCard, classes: tuple[str, ...] = ()) -> Stated:
    """What a model card of ours says."""
    return Stated(
        encoder_heads=card.architecture.encoder.heads,
        decoder_heads=card.architecture.decoder.heads,
        frames=card.frames,
        height=card.height,
        width=card.width,
        mean=card.mean,
        std=card.std,
        target=card.target,
        classes=classes or None,
        provenance=dict(card.provenance),
    )


def of_carried(text: str) -> Stated:
    """What an export of ours in another dialect carries, see `to_carry`. Raises WeightsError."""
    try:
        carried = json.loads(text)
        return Stated(**carried | {name: _tuple(carried.get(name)) for name in ("mean", "std", "classes")})
    except (ValueError, TypeError) as error:
        raise WeightsError(f"the card that it carries cannot be read: {error}") from error


def to_carry(card: ModelCard, classes: tuple[str, ...]) -> str:
    """The card for an export in another dialect, which our own reader understands."""
    stated = of_card(card, classes)
    known = {field.name: getattr(stated, field.name) for field in fields(stated)}
    return json.dumps({name: value for name, value in known.items() if value is not None})


def of_arguments(arguments: argparse.Namespace) -> Stated:
    """The arguments of the authors' training scripts (MAE: norm_pix_loss, VideoMAE: normlize_target)."""
    size = getattr(arguments, "input_size", None)
    target = None
    if hasattr(arguments, "norm_pix_loss"):
        target = "norm_pixel_mae" if arguments.norm_pix_loss else "pixel"
    if hasattr(arguments, "normlize_target"):
        target = "norm_pixel_videomae" if arguments.normlize_target else "pixel01"
    return Stated(frames=getattr(arguments, "num_frames", None), height=size, width=size, target=target)


def of_config(config: Mapping[str, Any]) -> Stated:
    """A config.json of transformers or timm; nothing of another's."""
    if config.get("model_type") in ("vit", "vit_mae", "videomae"):
        return _of_transformers(config)
    return _of_timm(config) if "architecture" in config else Stated()


def of_preprocessor(config: Mapping[str, Any]) -> Stated:
    """A preprocessor_config.json of transformers."""
    return Stated(mean=_tuple(config.get("image_mean")), std=_tuple(config.get("image_std")))


def _of_transformers(config: Mapping[str, Any]) -> Stated:
    size = config.get("image_size", 224)
    height, width = size if isinstance(size, list) else (size, size)
    is_video = config["model_type"] == "videomae"
    kinds = ("pixel01", "norm_pixel_videomae") if is_video else ("pixel", "norm_pixel_mae")
    labels = config.get("id2label")
    # transformers leaves out what is at its default.
    return Stated(
        encoder_heads=config.get("num_attention_heads", 12),
        decoder_heads=config.get("decoder_num_attention_heads", 6 if is_video else 16),
        frames=config.get("num_frames", 16) if is_video else 1,
        height=height,
        width=width,
        target=kinds[config.get("norm_pix_loss", is_video)],
        classes=tuple(labels[number] for number in sorted(labels, key=int)) if labels else None,
        epsilon=config.get("layer_norm_eps", 1e-12),
    )


def _of_timm(config: Mapping[str, Any]) -> Stated:
    trained, arguments = config.get("pretrained_cfg", config), config.get("model_args", {})
    size = trained.get("input_size")
    return Stated(
        encoder_heads=arguments.get("num_heads"),
        height=size and size[1],
        width=size and size[2],
        mean=_tuple(trained.get("mean")),
        std=_tuple(trained.get("std")),
        classes=_tuple(config.get("label_names")),
    )


def _tuple(values: Any) -> Any:
    return None if values is None else tuple(values)
