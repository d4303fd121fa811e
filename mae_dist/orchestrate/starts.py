"""Weights that a pretraining starts from: where they lie, and whether they fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from mae_dist import storage
from mae_dist.config.load import to_dict
from mae_dist.config.schema import RunConfig
from mae_dist.model.weights.header import (
    CLASSIFIER,
    ENCODER,
    MASKED_AUTOENCODER,
    WeightsError,
    metadata_of,
    read_card,
    weights_file,
)
from mae_dist.orchestrate.given import has_a_decoder, has_same_encoder, wrong_encoder, wrong_pixels

DECODER = ("decoder", "bridge_bias", "encoder_mask_token", "cross_decoder")
"""Of an architecture, what beside the encoder makes up the rest."""


def identify_start(config: RunConfig) -> tuple[str, list[str]]:
    """The sha256 of the weights to start from, and by field what keeps this recipe from starting there.

    Raises StorageError if they cannot be read, WeightsError if they are no export of a run.
    """
    assert config.start.weights is not None
    uri = weights_file(config.start.weights)
    data = storage.read_bytes(uri)
    try:
        is_classifier = metadata_of(data).get("format") == CLASSIFIER
        card = read_card(data, CLASSIFIER, MASKED_AUTOENCODER, ENCODER)
        card = card["model"] if is_classifier else card
    except WeightsError as error:
        raise WeightsError(
            f"{uri}: {error}; give a run directory, a file that a run exported, or one of "
            "mae-dist weights convert"
        ) from None
    problems = [*_wrong_encoder(card, config), *wrong_pixels(card, config)]
    if config.start.parts == "all":
        has_decoder = not is_classifier and has_a_decoder(card)
        problems += _wrong_decoder(card if has_decoder else None, config)
    return hashlib.sha256(data).hexdigest(), problems


def start_identity(config: RunConfig, inputs: Mapping[str, str]) -> dict[str, Any]:
    """What a pretraining depends on by where it starts, as plain data; {} where its weights are drawn."""
    if config.start.weights is None:
        return {}
    # By their digest: the same weights may lie elsewhere.
    return {"start": to_dict(config.start) | {"weights": inputs["start"]}}


def _wrong_encoder(card: Mapping[str, Any], config: RunConfig) -> Iterator[str]:
    theirs, tubelet = card["architecture"], config.architecture.tubelet
    if config.start.inflate is None:
        if theirs["tubelet"] == 1 < tubelet:
            yield (
                f"start.inflate: the weights are of an image model, {config.model.size} has patches of "
                f"{tubelet} frames; mean or center would do"
            )
        elif theirs["positions"] == "learned":
            yield (
                "start.weights: their encoder goes with learned positions, and a pretraining computes "
                "its own; start.inflate takes the rest of an image encoder to a model of clips"
            )
        else:
            yield from wrong_encoder(theirs, config, has_same_encoder)
    elif theirs["tubelet"] > 1:
        yield f"start.inflate: the weights have patches of {theirs['tubelet']} frames already; null would do"
    else:
        yield from wrong_encoder(theirs, config, _can_inflate)


def _can_inflate(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether one architecture holds all that the encoder of the other begins with."""
    same = theirs["patch"] == ours["patch"] and theirs["encoder"] == ours["encoder"]
    return same and ours["tubelet"] > 1 and all(theirs[part] or not ours[part] for part in _DROPPED)


_DROPPED = ("class_token", "key_bias")
"""What an image encoder may have beyond the video encoder that it becomes."""


def _wrong_decoder(card: Mapping[str, Any] | None, config: RunConfig) -> Iterator[str]:
    """What keeps the decoder of this card from going on; None: there is no decoder."""
    if card is None:
        yield "start.parts: all, but the weights are an encoder without a decoder; encoder would do"
        return
    theirs, ours = card["architecture"], asdict(config.architecture)
    if any(theirs[part] != ours[part] for part in DECODER):
        sizes = [
            f"width {its['decoder']['width']}, depth {its['decoder']['depth']}" for its in (theirs, ours)
        ]
        yield (
            f"start.parts: all, but the decoder of the weights ({sizes[0]}) is another one than that of the "
            f"recipe ({sizes[1]}); encoder would do"
        )
    elif card["target"] != config.target.kind:
        yield (
            f"target.kind: the decoder of the weights predicts {card['target']}, got {config.target.kind}; "
            "or start.parts=encoder"
        )
    elif theirs.get("predicted") != config.target.num_values(config.architecture):
        yield (
            "start.parts: all, but the decoder of the weights predicts other frames, or another number of "
            "values, than target says; encoder would do"
        )
