"""Weights that a run is given: in place of a pretraining, with their step, and to make its target with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from mae_dist import storage
from mae_dist.config.geometry import ARCHITECTURES
from mae_dist.config.schema import RunConfig
from mae_dist.model.weights.header import (
    ENCODER,
    MASKED_AUTOENCODER,
    TOKENIZER,
    WeightsError,
    exported_weights,
    read_card,
    weights_file,
)
from mae_dist.orchestrate.job import Job
from mae_dist.orchestrate.step import PRETRAINING, Demand, Step

_DROPPED = ("class_token", "key_bias")
"""What an image encoder may have beyond the video encoder that it becomes."""
ENCODER_FIELDS = ("patch", "tubelet", "encoder", "class_token", "key_bias")
"""Of an architecture, what makes up the encoder beside positions; evaluations need no decoder."""


def identify_weights(config: RunConfig) -> tuple[dict[str, str], list[str]]:
    """What stands for the weights given, and by field what keeps them from being evaluated by this recipe.

    Their sha256 is called "weights"; those that are an encoder alone have a "decoder" besides, "none".
    Raises StorageError if they cannot be read, WeightsError if they are no weights of ours.
    """
    assert config.weights is not None
    uri = weights_file(config.weights)
    data = storage.read_bytes(uri)
    try:
        card = read_card(data, MASKED_AUTOENCODER, ENCODER)
    except WeightsError as error:
        raise WeightsError(
            f"{uri}: {error}; give the export/model.safetensors of a run, or convert others' files: "
            "mae-dist weights convert FILE MODEL.safetensors"
        ) from None
    digest = {"weights": hashlib.sha256(data).hexdigest()}
    is_whole = has_a_decoder(card) and config.start.inflate is None
    return digest | ({} if is_whole else {"decoder": "none"}), list(_misfits(card, config))


def _misfits(card: Mapping[str, Any], config: RunConfig) -> Iterator[str]:
    theirs = card["architecture"]
    is_inflated = config.start.inflate is not None
    yield from wrong_encoder(theirs, config, can_inflate if is_inflated else _serves)
    yield from wrong_pixels(card, config)
    if is_inflated:
        return
    if theirs["positions"] == "learned" and card["frames"] != config.input.frames:
        yield (
            f"input.frames: the positions of the weights were learned on {card['frames']} frames, "
            f"got {config.input.frames}"
        )
    if not has_a_decoder(card):
        return
    if card["target"] != config.target.kind:
        yield f"target.kind: the weights predict {card['target']}, got {config.target.kind}"
    elif card["architecture"].get("predicted") != config.target.num_values(config.architecture):
        yield "target: the weights predict other frames, or another number of values, than target says"


Fits = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
"""Whether weights of one architecture will do for another, both as plain data."""


def has_same_encoder(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether two architectures have one encoder, with the same positions."""
    return _is_alike(theirs, ours) and theirs["positions"] == ours["positions"]


def wrong_encoder(theirs: Mapping[str, Any], config: RunConfig, fits: Fits) -> Iterator[str]:
    """By field, why weights of this architecture will not do, with the named sizes that they would do for."""
    ours = asdict(config.architecture)
    if fits(theirs, ours):
        return
    if fits(theirs, ours | {"tubelet": theirs["tubelet"]}):
        yield f"model.tubelet: the weights have {theirs['tubelet']} frames in a patch, got {ours['tubelet']}"
        return
    encoder = theirs["encoder"]
    fitting = [size for size, its in ARCHITECTURES.items() if fits(theirs, asdict(its))]
    yield (
        f"model.size: the weights are of an encoder of width {encoder['width']}, depth "
        f"{encoder['depth']} and patches of {theirs['patch']} pixels, which is not {config.model.size}; "
        + (f"{' or '.join(fitting)} would do" if fitting else "no named size has it")
    )


def wrong_pixels(card: Mapping[str, Any], config: RunConfig) -> Iterator[str]:
    """By field, what is another than for the weights: channels, or how they are normalised."""
    channels = card["architecture"].get("channels", 3)  # older cards are all of RGB
    if channels != config.input.channels:
        yield f"input.channels: the weights were trained with {channels}, got {config.input.channels}"
        return
    for name in ("mean", "std"):
        given = getattr(config.input, name)
        if list(card[name]) != list(given):
            yield f"input.{name}: the weights were trained with {list(card[name])}, got {list(given)}"


def _serves(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether an encoder of ours can be evaluated with the weights; learned positions stand for any."""
    return _is_alike(theirs, ours) and theirs["positions"] in (ours["positions"], "learned")


def can_inflate(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether one architecture holds all that the encoder for clips begins with, for patches of one frame."""
    same = theirs["patch"] == ours["patch"] and theirs["encoder"] == ours["encoder"]
    is_inflated = theirs["tubelet"] == 1 < ours["tubelet"]
    return same and is_inflated and all(theirs[part] or not ours[part] for part in _DROPPED)


def _is_alike(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    return all(theirs[part] == ours[part] for part in ENCODER_FIELDS)


def has_a_decoder(card: Mapping[str, Any]) -> bool:
    """Whether the weights with this card are more than an encoder."""
    return card["architecture"]["decoder"]["depth"] > 0


def identify_tokenizer(config: RunConfig) -> tuple[str, list[str]]:
    """The sha256 of the target's tokenizer, and by field what keeps it from being predicted by this recipe.

    Raises StorageError if it cannot be read, WeightsError if it is no export of a tokenizer.
    """
    assert config.target.tokenizer is not None
    uri, patch = weights_file(config.target.tokenizer), config.model.architecture.patch
    data = storage.read_bytes(uri)
    try:
        card = read_card(data, TOKENIZER)
    except WeightsError as error:
        raise WeightsError(f"{uri}: {error}; give a run of pretrain/tokenizer, or its export") from None
    problems = []
    if card["vocabulary"] != config.target.vocabulary:
        problems.append(
            f"target.vocabulary: the tokenizer has {card['vocabulary']} codes, got {config.target.vocabulary}"
        )
    if len(card["mean"]) != config.input.channels:
        problems.append(
            f"target.tokenizer: was trained with {len(card['mean'])} channel(s), and input.channels is "
            f"{config.input.channels}; train one with --set input.channels={config.input.channels}"
        )
    if card["patch"] != patch:
        side = card["patch"]
        problems.append(
            f"target.tokenizer: gives a code to every {side} x {side} pixels, patches of {config.model.size} "
            f"are {patch} x {patch}; train one with --set model.size={config.model.size}"
        )
    return hashlib.sha256(data).hexdigest(), problems


def given_step(job: Job, inputs: Mapping[str, str]) -> Step:
    """Stands where the pretraining would, under its name: what needs pretrained weights finds them there."""
    return Step(
        name="pretrain",
        run=take_weights,
        config=job,
        identity=given_identity(job.config, inputs),
        output="",
        demand=Demand(cpus=1),
        priority=PRETRAINING,
    )


def given_identity(config: RunConfig, inputs: Mapping[str, str]) -> dict[str, Any]:
    """What a run on given weights depends on before any evaluation, as plain data."""
    inflated = {} if config.start.inflate is None else {"inflate": config.start.inflate}
    return {"weights": inputs["weights"], "seed": config.seed, "catalog": inputs["catalog"]} | inflated


def take_weights(job: Job, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Copy the weights given into the run directory, as if they had been trained there; or inflate them."""
    assert job.config.weights is not None
    uri = weights_file(job.config.weights)
    data = storage.read_bytes(uri)
    if job.fence is not None:
        job.fence.check()
    taken = data if job.config.start.inflate is None else _inflated(data, job.config)
    storage.write_bytes(exported_weights(output), taken)
    return {"weights": uri, "sha256": hashlib.sha256(data).hexdigest()}


def _inflated(data: bytes, config: RunConfig) -> bytes:
    """The encoder of an image model as a file of one for the clips of this recipe."""
    # Imported here: what is wrong with weights is told without torch.
    from mae_dist.model.inflation import inflate_encoder
    from mae_dist.model.weights import native

    assert config.start.inflate is not None
    weights, card = native.from_bytes(data, (MASKED_AUTOENCODER, ENCODER))
    inflated = inflate_encoder(native.encoder_tensors(weights), config.architecture, config.start.inflate)
    its = config.input
    card = replace(
        card,
        architecture=replace(config.architecture, decoder=native.NO_DECODER),
        frames=its.frames,
        height=its.height,
        width=its.width,
        provenance=dict(card.provenance) | {"Inflated": f"{config.start.inflate}, from an image encoder"},
    )
    return native.to_bytes({f"encoder.{name}": values for name, values in inflated.items()}, card)
