"""A run on weights that are there: what it consists of, and which weights it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from mae_dist import storage
from mae_dist.config.geometry import architecture
from mae_dist.config.load import load
from mae_dist.config.schema import RunConfig
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.weights import native
from mae_dist.model.weights.header import exported_weights
from mae_dist.orchestrate.experiment import run_uri
from mae_dist.orchestrate.given import take_weights
from mae_dist.orchestrate.job import Job
from mae_dist.orchestrate.preflight import PreflightError, check_inputs
from tests.orchestrate.test_experiment import INPUTS, steps_of
from tests.orchestrate.test_preflight import save_catalog

SIZE = "mae_nano"


def export(run: Path, config: RunConfig, **changes) -> str:
    """An export as a pretraining leaves it, in the folder `run`; returns the folder."""
    torch.manual_seed(0)
    card = native.ModelCard(
        architecture=config.model.architecture,
        frames=1,
        height=32,
        width=32,
        mean=config.input.mean,
        std=config.input.std,
        target=config.target.kind,
    )
    model = MaskedAutoencoder(card.architecture, card.grid)
    data = native.to_bytes(model.state_dict(), dataclasses.replace(card, **changes))
    storage.write_bytes(exported_weights(str(run)), data)
    return str(run)


@pytest.fixture
def config(tmp_path):
    samples = save_catalog(tmp_path, [0, 1, 0, 1], ["cat", "dog"])

    def config(*settings: str) -> RunConfig:
        given = [f"data.catalog={samples}", f"data.test_catalog={samples}", f"storage={tmp_path / 'runs'}"]
        return load("pretrain/cifar10", [*given, f"model.size={SIZE}", *settings])

    return config


def refusal(config: RunConfig) -> list[str]:
    with pytest.raises(PreflightError) as caught:
        check_inputs(config)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize("named", ["run directory", "file"])
def test_weights_are_named_by_their_run_or_their_file(config, tmp_path, named):
    run = export(tmp_path / "run", config())
    uri = run if named == "run directory" else exported_weights(run)
    inputs = check_inputs(config(f"weights={uri}")).digests
    assert len(inputs["weights"]) == 64
    assert "catalog" in inputs


def test_weights_that_are_not_there_are_named_with_the_file_looked_for(config, tmp_path):
    [problem] = refusal(config(f"weights={tmp_path / 'nowhere'}"))
    assert problem.startswith(f"weights: {tmp_path}/nowhere/export/model.safetensors: ")


def test_a_file_that_is_no_export_is_refused(config, tmp_path):
    (tmp_path / "other.safetensors").write_bytes(b"PK not weights at all")
    [problem] = refusal(config(f"weights={tmp_path}/other.safetensors"))
    assert problem == (
        f"weights: {tmp_path}/other.safetensors: no safetensors file (21 bytes); give the "
        "export/model.safetensors of a run, or convert others' files: mae-dist weights convert FILE "
        "MODEL.safetensors"
    )


def test_weights_of_another_encoder_are_refused_with_the_size_that_fits(config, tmp_path):
    micro = config("model.size=mae_micro")
    run = export(tmp_path / "run", micro)
    [problem] = refusal(config(f"weights={run}"))
    assert problem == (
        "model.size: the weights are of an encoder of width 192, depth 6 and patches of 4 pixels, which is "
        "not mae_nano; mae_micro would do"
    )


def test_a_decoder_is_not_looked_at(config, tmp_path):
    run = export(tmp_path / "run", config(), architecture=architecture(SIZE, decoder_depth=1))
    check_inputs(config(f"weights={run}"))


def test_an_encoder_without_decoder_is_evaluated_and_reconstructs_nothing(config, tmp_path):
    alone = dataclasses.replace(architecture(SIZE), decoder=native.NO_DECODER, positions="learned")
    run = export(tmp_path / "run", config(), architecture=alone, target="pixel")
    given = config(f"weights={run}")
    inputs = check_inputs(given).digests
    assert inputs["decoder"] == "none"
    plain, evaluated = steps_of(config()), steps_of(given, INPUTS | inputs)
    assert plain.keys() - evaluated.keys() == {"reconstruction"}


def test_positions_learned_on_other_frames_are_refused(config, tmp_path):
    alone = dataclasses.replace(architecture(SIZE), decoder=native.NO_DECODER, positions="learned")
    run = export(tmp_path / "run", config(), architecture=alone, frames=4)
    assert refusal(config(f"weights={run}")) == [
        "input.frames: the positions of the weights were learned on 4 frames, got 1"
    ]


def test_other_pixels_and_another_target_are_refused_with_those_of_the_weights(config, tmp_path):
    run = export(tmp_path / "run", config(), std=(0.5, 0.5, 0.5), target="pixel")
    assert refusal(config(f"weights={run}")) == [
        "input.std: the weights were trained with [0.5, 0.5, 0.5], got [0.247, 0.2435, 0.2616]",
        "target.kind: the weights predict pixel, got norm_pixel_mae",
    ]


def test_weights_that_predict_other_frames_are_refused(config, tmp_path):
    twice = dataclasses.replace(architecture(SIZE), predicted=96)
    run = export(tmp_path / "run", config(), architecture=twice)
    assert refusal(config(f"weights={run}")) == [
        "target: the weights predict other frames, or another number of values, than target says"
    ]


def test_nothing_is_pretrained_and_all_evaluations_are_those_of_the_recipe(config, tmp_path):
    given = config(f"weights={export(tmp_path / 'run', config())}")
    inputs = INPUTS | {"weights": "sha256"}
    plain, evaluated = steps_of(config()), steps_of(given, inputs)
    assert evaluated.keys() == plain.keys()
    assert evaluated["pretrain"].run is take_weights
    assert evaluated["pretrain"].needs == ()
    assert evaluated["pretrain"].demand.gpus == 0


def test_other_weights_make_another_run_directory_and_other_training_settings_do_not(config):
    given, inputs = config("weights=a.safetensors"), INPUTS | {"weights": "one"}
    assert run_uri(given, inputs) != run_uri(config(), INPUTS)
    assert run_uri(given, inputs) != run_uri(given, inputs | {"weights": "other"})
    longer = config("weights=b.safetensors", "train.length=99 epochs")
    assert run_uri(longer, inputs) == run_uri(given, inputs)


def test_the_weights_lie_where_a_pretraining_would_leave_them(config, tmp_path):
    run = export(tmp_path / "run", config())
    given = config(f"weights={run}")
    summary = take_weights(Job(config=given, use_gpu=False), str(tmp_path / "evaluation"), {})
    copied = storage.read_bytes(exported_weights(str(tmp_path / "evaluation")))
    assert copied == storage.read_bytes(exported_weights(run))
    assert summary["weights"] == exported_weights(run)
    native.load_encoder(copied)
