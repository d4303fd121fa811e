"""The export of a fine-tuning: one safetensors file of the whole classifier, with what its answers mean.

Tensors carry the names of `Classifier.state_dict()`. Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from safetensors.torch import save
from torch import Tensor

from mae_dist.config.geometry import Grid
from mae_dist.model.classifier import Classifier
from mae_dist.model.encoder import Encoder
from mae_dist.model.positions import interpolated
from mae_dist.model.weights.files import open_weights
from mae_dist.model.weights.header import CLASSIFIER, WeightsError, check_format
from mae_dist.model.weights.native import ModelCard, card_from_dict, card_markdown


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierCard:
    """What a user of the weights must know."""

    model: ModelCard
    """Of the encoder; `target` is what it was pretrained to predict."""
    classes: tuple[str, ...]
    """Name of each answer."""
    pool: str
    """A key of `POOLS`."""


def to_bytes(weights: Mapping[str, Tensor], card: ClassifierCard) -> bytes:
    """A safetensors file of `Classifier.state_dict()` with its card, to be written wherever."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    return save(tensors, metadata={"format": CLASSIFIER, "card": json.dumps(asdict(card))})


def load_classifier(data: bytes, grid: Grid | None = None) -> tuple[Classifier, ClassifierCard]:
    """The classifier of an export, for `grid` (None: the card's own), in evaluation mode.

    Learned positions are stretched over another grid. Raises WeightsError.
    """
    tensors, metadata = open_weights(data)
    check_format(metadata, CLASSIFIER)
    given = json.loads(metadata["card"])
    model = card_from_dict(given["model"])
    card = ClassifierCard(model=model, classes=tuple(given["classes"]), pool=given["pool"])
    grid = grid or model.grid
    learned = tensors.get("encoder.positions")
    if learned is not None and grid != model.grid:
        tensors["encoder.positions"] = interpolated(learned, model.grid, grid)
    classifier = Classifier(Encoder(model.architecture, grid), len(card.classes), pool=card.pool)
    try:
        classifier.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"the weights do not fit their card: {reason}") from error
    return classifier.eval(), card


def classifier_markdown(card: ClassifierCard) -> str:
    """The card for people, as Markdown."""
    shown = ", ".join(card.classes[:10]) + (", ..." if len(card.classes) > 10 else "")
    rows = {"Pooling": card.pool, "Classes": f"{len(card.classes)}: {shown}"}
    return card_markdown(card.model) + "".join(f"| {name} | {value} |\n" for name, value in rows.items())
