"""Weights that a run is given in place of a pretraining: where they lie, whether they fit, and their step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from mae_dist import storage
from mae_dist.config.geometry import ARCHITECTURES
from mae_dist.config.schema import RunConfig
from mae_dist.model.weights.header import (
    MASKED_AUTOENCODER,
    WeightsError,
    exported_weights,
    read_card,
    weights_file,
)
from mae_dist.orchestrate.job import Job
from mae_dist.orchestrate.step import PRETRAINING, Demand, Step

ENCODER = ("patch", "tubelet", "encoder", "positions", "class_token", "key_bias")
"""Of an architecture, what makes up the encoder; evaluations need no decoder."""


def identify_weights(config: RunConfig) -> tuple[str, list[str]]:
    """The sha256 of the weights given, and by field what keeps them from being evaluated by this recipe.

    Raises StorageError if they cannot be read, WeightsError if they are no export of a pretraining.
    """
    assert config.weights is not None
    uri = weights_file(config.weights)
    data = storage.read_bytes(uri)
    try:
        card = read_card(data, MASKED_AUTOENCODER)
    except WeightsError as error:
        raise WeightsError(f"{uri}: {error}; give the export/model.safetensors of a run") from None
    return hashlib.sha256(data).hexdigest(), list(_misfits(card, config))


def _misfits(card: Mapping[str, Any], config: RunConfig) -> Iterator[str]:
    yield from wrong_encoder(card["architecture"], config, has_same_encoder)
    yield from wrong_pixels(card, config)
    if card["target"] != config.target.kind:
        yield f"target.kind: the weights predict {card['target']}, got {config.target.kind}"


Fits = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
"""Whether weights of one architecture will do for another, both as plain data."""


def has_same_encoder(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether two architectures have one encoder."""
    return all(theirs[part] == ours[part] for part in ENCODER)


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
    return {"weights": inputs["weights"], "seed": config.seed, "catalog": inputs["catalog"]}


def take_weights(job: Job, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Copy the weights given into the run directory, as if they had been trained there."""
    assert job.config.weights is not None
    uri = weights_file(job.config.weights)
    data = storage.read_bytes(uri)
    if job.fence is not None:
        job.fence.check()
    storage.write_bytes(exported_weights(output), data)
    return {"weights": uri, "sha256": hashlib.sha256(data).hexdigest()}
