"""A pretraining that starts from weights: what it depends on, and which weights it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from mae_dist import storage
from mae_dist.config.load import load
from mae_dist.config.schema import RunConfig
from mae_dist.model.classifier import Classifier
from mae_dist.model.encoder import Encoder
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.weights import classifier, native
from mae_dist.model.weights.header import exported_weights
from mae_dist.orchestrate.experiment import pretraining_identity, run_uri
from mae_dist.orchestrate.preflight import PreflightError, check_inputs
from tests.orchestrate.test_experiment import INPUTS
from tests.orchestrate.test_preflight import save_catalog

STARTED = INPUTS | {"start": "sha256"}


@pytest.fixture
def config(tmp_path):
    samples = save_catalog(tmp_path, [0, 1, 0, 1], ["cat", "dog"])

    def config(*settings: str) -> RunConfig:
        given = [f"data.catalog={samples}", f"data.test_catalog={samples}", f"storage={tmp_path / 'runs'}"]
        return load("pretrain/cifar10", [*given, "model.size=mae_nano", *settings])

    return config


def card_of(config: RunConfig) -> native.ModelCard:
    return native.ModelCard(
        architecture=config.architecture,
        frames=config.input.frames,
        height=config.input.height,
        width=config.input.width,
        mean=config.input.mean,
        std=config.input.std,
        target=config.target.kind,
    )


def export(run: Path, config: RunConfig, **changes) -> str:
    """What a pretraining by this recipe leaves, with another card; returns its folder."""
    torch.manual_seed(0)
    card = dataclasses.replace(card_of(config), **changes)
    model = MaskedAutoencoder(card.architecture, card.grid)
    storage.write_bytes(exported_weights(str(run)), native.to_bytes(model.state_dict(), card))
    return str(run)


def refusal(config: RunConfig) -> list[str]:
    with pytest.raises(PreflightError) as caught:
        check_inputs(config)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_weights_that_fit_are_known_by_their_digest(config, tmp_path):
    run = export(tmp_path / "run", config())
    inputs = check_inputs(config(f"start.weights={run}")).digests
    assert len(inputs["start"]) == 64


def test_other_weights_make_another_run_and_another_place_of_the_same_does_not(config):
    started = config("start.weights=a")
    assert run_uri(started, STARTED) != run_uri(config(), INPUTS)
    assert run_uri(started, STARTED) != run_uri(started, INPUTS | {"start": "other"})
    assert run_uri(started, STARTED) == run_uri(config("start.weights=b"), STARTED)
    assert run_uri(started, STARTED) != run_uri(config("start.weights=a", "start.parts=encoder"), STARTED)


def test_a_run_that_starts_from_nothing_depends_on_no_start(config):
    assert "start" not in pretraining_identity(config(), INPUTS)


def test_weights_that_are_not_there_or_no_export_are_named(config, tmp_path):
    [problem] = refusal(config(f"start.weights={tmp_path / 'nowhere'}"))
    assert problem.startswith(f"start.weights: {tmp_path}/nowhere/export/model.safetensors: ")
    (tmp_path / "other.safetensors").write_bytes(b"PK not weights at all")
    assert refusal(config(f"start.weights={tmp_path}/other.safetensors")) == [
        f"start.weights: {tmp_path}/other.safetensors: no safetensors file (21 bytes); give a run "
        "directory, or a file that a run exported"
    ]


def test_another_encoder_decoder_normalisation_or_target_is_refused_with_what_would_do(config, tmp_path):
    run = export(tmp_path / "micro", config("model.size=mae_micro"), std=(0.5, 0.5, 0.5))
    assert refusal(config(f"start.weights={run}", "start.parts=encoder")) == [
        "model.size: the weights are of an encoder of width 192, depth 6 and patches of 4 pixels, "
        "which is not mae_nano; mae_micro would do",
        "input.std: the weights were trained with [0.5, 0.5, 0.5], got [0.247, 0.2435, 0.2616]",
    ]
    run = export(tmp_path / "shallow", config("model.decoder_depth=1"))
    assert refusal(config(f"start.weights={run}")) == [
        "start.parts: all, but the decoder of the weights (width 64, depth 1) is another one than "
        "that of the recipe (width 64, depth 2); encoder would do"
    ]
    check_inputs(config(f"start.weights={run}", "start.parts=encoder"))
    run = export(tmp_path / "pixel", config("target.kind=pixel"))
    assert refusal(config(f"start.weights={run}")) == [
        "target.kind: the decoder of the weights predicts pixel, got norm_pixel_mae; or start.parts=encoder"
    ]


def test_a_decoder_that_predicts_something_else_is_refused(config, tmp_path):
    twice = dataclasses.replace(config().architecture, predicted=96)
    run = export(tmp_path / "run", config(), architecture=twice)
    assert refusal(config(f"start.weights={run}")) == [
        "start.parts: all, but the decoder of the weights predicts other frames, or another number of "
        "values, than target says; encoder would do"
    ]


def test_pixels_of_other_channels_are_refused(config, tmp_path):
    run = export(tmp_path / "grey", config("input.channels=1", "input.mean=[0.5]", "input.std=[0.25]"))
    assert refusal(config(f"start.weights={run}")) == [
        "input.channels: the weights were trained with 1, got 3",
    ]


def test_a_fine_tuning_starts_an_encoder_and_no_decoder(config, tmp_path):
    model = Classifier(Encoder(config().architecture, config().grid), 2)
    its = classifier.ClassifierCard(model=card_of(config()), classes=("a", "b"), pool="mean")
    uri = str(tmp_path / "tuned.safetensors")
    storage.write_bytes(uri, classifier.to_bytes(model.state_dict(), its))
    assert refusal(config(f"start.weights={uri}")) == [
        "start.parts: all, but a fine-tuning leaves no decoder; encoder would do"
    ]
    check_inputs(config(f"start.weights={uri}", "start.parts=encoder"))


INFLATED = ("start.parts=encoder", "model.tubelet=2", "input.frames=2")


def test_an_image_model_starts_one_for_clips_when_it_is_inflated(config, tmp_path):
    run = export(tmp_path / "run", config())
    check_inputs(config(f"start.weights={run}", *INFLATED, "start.inflate=center"))
    assert refusal(config(f"start.weights={run}", *INFLATED)) == [
        "start.inflate: the weights are of an image model, mae_nano has patches of 2 frames; mean "
        "or center would do"
    ]


def test_what_has_tubelets_already_is_not_inflated(config, tmp_path):
    run = export(tmp_path / "run", config("model.tubelet=2", "input.frames=2"))
    assert refusal(config(f"start.weights={run}", *INFLATED, "start.inflate=mean")) == [
        "start.inflate: the weights have patches of 2 frames already; null would do"
    ]
    check_inputs(config(f"start.weights={run}", *INFLATED))


def test_patches_of_another_number_of_frames_are_named(config, tmp_path):
    run = export(tmp_path / "run", config("model.tubelet=2", "input.frames=2"))
    assert refusal(
        config(f"start.weights={run}", "start.parts=encoder", "model.tubelet=4", "input.frames=4")
    ) == ["model.tubelet: the weights have 2 frames in a patch, got 4"]
