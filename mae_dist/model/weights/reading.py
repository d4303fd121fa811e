"""Weights of any dialect as ours: told apart, renamed, and refused where they cannot be the same model.

bytes -> tensors by bare names -> dialect -> architecture -> our names, with a model card
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mae_dist.config.geometry import Grid
from mae_dist.model.targets import TARGETS
from mae_dist.model.transformer import NORM_EPSILON
from mae_dist.model.weights import classifier, native
from mae_dist.model.weights.container import Contents, open_contents
from mae_dist.model.weights.dialects import detect
from mae_dist.model.weights.dialects.dialect import Dialect
from mae_dist.model.weights.header import CLASSIFIER, ENCODER, MASKED_AUTOENCODER, WeightsError
from mae_dist.model.weights.naming import Kind, Part, to_ours
from mae_dist.model.weights.native import ModelCard, card_from_dict
from mae_dist.model.weights.shapes import shape_of
from mae_dist.model.weights.stated import Stated

OURS = "mae_dist"
KINDS: dict[str, Kind] = {
    MASKED_AUTOENCODER: "masked_autoencoder",
    ENCODER: "encoder",
    CLASSIFIER: "classifier",
}
"""What our own formats hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """What a file holds, as ours."""

    dialect: str
    """Whose file it was."""
    part: Part
    tensors: Mapping[str, Tensor]
    """By our names, float32; of an encoder with "encoder." in front."""
    card: ModelCard
    classes: tuple[str, ...]
    """Of a classifier."""
    remarks: tuple[str, ...]
    """What was taken from what is published, and what is unusual."""

    @property
    def grid(self) -> Grid:
        """Of the input it was trained with."""
        return self.card.grid


def read_weights(
    data: bytes, *, given: Stated | None = None, beside: Stated | None = None, encoder_only: bool = False
) -> Weights:
    """The weights in a file of any dialect.

    `given` is what the user states, `beside` what lies beside the file. With `encoder_only`, a decoder or a
    head is left out. Raises WeightsError with the reason for what cannot become ours exactly.
    """
    contents = open_contents(data)
    provenance = {"sha256 of the source": hashlib.sha256(data).hexdigest()}
    if contents.metadata.get("format") in KINDS:
        read = _own(contents)
    else:
        dialect, tensors = detect(contents.tensors, contents.metadata)
        stated = (given or Stated()).otherwise(contents.stated).otherwise(beside or Stated())
        try:
            read = _foreign(dialect, tensors, stated, encoder_only, provenance)
        except WeightsError as error:
            raise WeightsError(f"{dialect.name}: {error}") from error
    return encoder_alone(read) if encoder_only else read


def encoder_alone(weights: Weights) -> Weights:
    """The same without decoder or head. Raises WeightsError for a classifier that has no norm of tokens."""
    if weights.part.kind == "encoder":
        return weights
    if weights.part.kind == "classifier" and weights.part.pool == "mean":
        raise WeightsError(
            "a classifier that norms the mean of the tokens: its encoder's own norm is gone, so there is no "
            "encoder to take alone"
        )
    card = native.without_decoder(weights.card)
    return Weights(
        dialect=weights.dialect,
        part=Part(kind="encoder", architecture=card.architecture),
        tensors={name: tensor for name, tensor in weights.tensors.items() if name.startswith("encoder.")},
        card=card,
        classes=(),
        remarks=weights.remarks,
    )


def to_native(weights: Weights) -> bytes:
    """A safetensors file of ours, of the format that fits what it holds."""
    if weights.part.kind == "classifier":
        card = classifier.ClassifierCard(model=weights.card, classes=weights.classes, pool=weights.part.pool)
        return classifier.to_bytes(weights.tensors, card)
    return native.to_bytes(weights.tensors, weights.card)


def _own(contents: Contents) -> Weights:
    given = json.loads(contents.metadata["card"])
    kind = KINDS[contents.metadata["format"]]
    is_classifier = kind == "classifier"
    card = card_from_dict(given["model"] if is_classifier else given)
    return Weights(
        dialect=OURS,
        part=Part(
            kind=kind, architecture=card.architecture, pool=given["pool"] if is_classifier else "class_token"
        ),
        tensors=contents.tensors,
        card=card,
        classes=tuple(given["classes"]) if is_classifier else (),
        remarks=(),
    )


def _foreign(
    dialect: Dialect,
    tensors: Mapping[str, Tensor],
    stated: Stated,
    encoder_only: bool,
    provenance: dict[str, str],
) -> Weights:
    naming, family = dialect.naming, dialect.family
    if encoder_only:
        tensors = {n: tensor for n, tensor in tensors.items() if not n.startswith(dialect.decoder_marks)}
    obstacle = dialect.obstacle(tensors)
    if obstacle is not None:
        raise WeightsError(obstacle)
    stated = stated.otherwise(dialect.stated(tensors))
    tensors = dialect.prepare(tensors)
    kind, pool = naming.kind_of(tensors), naming.pool_of(tensors)
    architecture, (frames, height, width) = shape_of(tensors, naming, kind, family, stated)
    if kind == "classifier" and pool == "class_token" and not architecture.class_token:
        raise WeightsError("a classifier of the first token, without a class token; ours pools by mean then")
    card = ModelCard(
        architecture=architecture,
        frames=frames,
        height=height,
        width=width,
        **_pixels(stated.otherwise(family.published)),
        target=_target(stated.otherwise(family.published), kind),
        provenance={**(stated.provenance or {}), "Converted from": dialect.name, **provenance},
    )
    part = Part(kind=kind, architecture=architecture, pool=pool if kind == "classifier" else "class_token")
    ours = to_ours({name: tensor.float() for name, tensor in tensors.items()}, naming, part, card.grid)
    return Weights(
        dialect=dialect.name,
        part=part,
        tensors=ours,
        card=card,
        classes=_classes(ours, stated) if kind == "classifier" else (),
        remarks=tuple(_remarks(dialect, tensors, part, stated)),
    )


def _pixels(stated: Stated) -> dict[str, tuple[float, ...]]:
    assert stated.mean is not None and stated.std is not None  # noqa: PT018
    return {"mean": stated.mean, "std": stated.std}


def _target(stated: Stated, kind: Kind) -> str:
    assert stated.target is not None
    if kind == "masked_autoencoder" and stated.target not in TARGETS:
        raise WeightsError(
            "its decoder predicts pixels in [0, 1] that are not normalised, which none of ours does "
            f"({', '.join(TARGETS)}); take the encoder alone"
        )
    return stated.target if stated.target in TARGETS else "pixel"


def _classes(ours: Mapping[str, Tensor], stated: Stated) -> tuple[str, ...]:
    num_classes = len(ours["head.weight"])
    if stated.classes is None:
        return tuple(map(str, range(num_classes)))
    if len(stated.classes) != num_classes:
        raise WeightsError(f"{len(stated.classes)} names of classes are stated, its head has {num_classes}")
    return stated.classes


def _remarks(dialect: Dialect, tensors: Mapping[str, Tensor], part: Part, stated: Stated) -> Iterator[str]:
    """What a reader should know, in words."""
    assumed = ["mean", "std"] + ([] if part.kind != "masked_autoencoder" else ["target"])
    if dialect.naming.has_time:
        assumed += ["frames"] if "encoder" in dialect.naming.positions else ["frames", "height", "width"]
    assumed += ["encoder_heads"] + (["decoder_heads"] if part.kind == "masked_autoencoder" else [])
    unsaid = stated.unsaid(tuple(assumed))
    if unsaid:
        yield f"not said by the file, taken from what is published: {', '.join(unsaid)}"
    if part.kind == "classifier" and stated.classes is None:
        yield "the names of its classes are not known; they are numbered"
    if part.architecture.positions == "learned":
        yield "its positions were learned; they are kept, and stretched over inputs of other sizes"
    if stated.epsilon not in (None, NORM_EPSILON):
        yield (
            f"config.json says layer norms with epsilon {stated.epsilon:g}; ours have {NORM_EPSILON:g}, as "
            "those of the authors"
        )
    others = sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values()} - {"float32"})
    if others:
        yield f"stored as {', '.join(others)}; converted to float32"
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        yield f"{len(broken)} tensors hold numbers that are not finite, the first is {min(broken)!r}"
