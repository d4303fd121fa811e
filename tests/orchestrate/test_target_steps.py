"""What a target is made with is a step of the run, whose file all ranks and all attempts read."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mae_dist import storage
from mae_dist.config.load import load
from mae_dist.model.tokenizer import TokenizerCard, to_bytes, tokenizer_of
from mae_dist.model.weights.header import exported_weights
from mae_dist.orchestrate import experiment
from mae_dist.orchestrate.experiment import run_uri
from mae_dist.orchestrate.job import Job
from mae_dist.orchestrate.preflight import PreflightError, check_inputs
from mae_dist.orchestrate.targets import make_target
from mae_dist.train.tasks import PretrainTask
from mae_dist.train.worker import build_task
from tests.orchestrate.test_experiment import INPUTS, demo, keys_of, steps_of
from tests.orchestrate.test_preflight import save_catalog

PCA = "target={kind: pca, components: 4, basis_patches: 100}"


def names(*settings: str) -> list[str]:
    return list(steps_of(demo("evaluations={}", *settings)))


def test_a_basis_is_made_after_the_samples_are_listed_and_before_the_pretraining():
    steps = steps_of(demo(PCA))
    assert [step.name for step in steps["target"].needs] == ["catalog"]
    assert [step.name for step in steps["pretrain"].needs] == ["catalog", "target"]
    assert steps["target"].output == "target"


def test_what_the_basis_depends_on_makes_another_one():
    once = keys_of(demo(PCA))["target"]
    assert keys_of(demo(PCA, "seed=1"))["target"] != once
    assert keys_of(demo(PCA), INPUTS | {"catalog": "other"})["target"] != once
    assert keys_of(demo(PCA, "train.length=999 steps"))["target"] == once


def test_targets_without_a_way_back_to_pixels_are_not_shown():
    assert "reconstruction" in names()
    for setting in (PCA, "target.kind=hog", "target.frames=double"):
        assert "reconstruction" not in names(setting)
    assert names("tokenizer.vocabulary=8") == ["catalog", "pretrain", "test_catalog", "report"]


def test_weights_that_are_given_need_nothing_to_be_made():
    config = demo(PCA, "weights=somewhere")
    assert "target" not in steps_of(config, INPUTS | {"weights": "digest"})


@pytest.fixture
def tokenizer(tmp_path):
    """Writes the export of a tokenizer and returns the folder of its run."""

    def tokenizer(**changes) -> str:
        torch.manual_seed(0)
        card = TokenizerCard(
            vocabulary=8, width=4, blocks=0, patch=4, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
        )
        card = dataclasses.replace(card, **changes)
        run = str(tmp_path / "tokenizer")
        storage.write_bytes(exported_weights(run), to_bytes(tokenizer_of(card).state_dict(), card))
        return run

    return tokenizer


@pytest.fixture
def config(tmp_path):
    samples = save_catalog(tmp_path, [0, 1, 0, 1], ["cat", "dog"])

    def config(run: str, *settings: str):
        target = f"target={{kind: token, vocabulary: 8, tokenizer: {run}}}"
        given = [f"data.catalog={samples}", f"storage={tmp_path / 'runs'}", "evaluations={}"]
        return load("pretrain/cifar10", [*given, target, *settings])

    return config


def test_a_tokenizer_is_known_by_what_it_is_and_not_by_where_it_lies(tmp_path, tokenizer, config):
    here = config(tokenizer())
    inputs = check_inputs(here).digests
    there = str(tmp_path / "moved.safetensors")
    storage.write_bytes(there, storage.read_bytes(exported_weights(here.target.tokenizer)))
    moved = config(there)
    assert run_uri(moved, check_inputs(moved).digests) == run_uri(here, inputs)
    changed = config(tokenizer(width=5))
    assert run_uri(changed, check_inputs(changed).digests) != run_uri(here, inputs)


def test_a_tokenizer_is_copied_into_the_run_and_predicted_from_there(
    tmp_path, tokenizer, config, monkeypatch
):
    given = config(tokenizer())
    job = Job(config=given, use_gpu=False)
    inputs = {"catalog": str(tmp_path), "target": str(tmp_path / "run" / "target")}
    make_target(job, inputs["target"], inputs)
    storage.delete_tree(given.target.tokenizer)
    trained = []
    monkeypatch.setattr(experiment, "run_training", lambda training, **_: trained.append(training) or {})
    experiment.run_pretraining(job, str(tmp_path / "run"), inputs)
    task = build_task(trained[0], num_classes=2)
    assert isinstance(task, PretrainTask)
    assert task.model.decoder.prediction.out_features == 8
    assert sum(parameter.numel() for parameter in task.target.parameters()) > 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"vocabulary": 9}, "target.vocabulary: the tokenizer has 9 codes, got 8"),
        (
            {"patch": 8},
            "target.tokenizer: gives a code to every 8 x 8 pixels, patches of mae_micro are 4 x 4; train one "
            "with --set model.size=mae_micro",
        ),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused_before_anything_starts(tokenizer, config, changes, problem):
    with pytest.raises(PreflightError) as caught:
        check_inputs(config(tokenizer(**changes)))
    assert problem in str(caught.value)


def test_other_files_are_no_tokenizers(tmp_path, config):
    file = str(tmp_path / "other.safetensors")
    storage.write_bytes(file, b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(PreflightError) as caught:
        check_inputs(config(file))
    assert f"target.tokenizer: {file}: a file of weights, but not an export of mae_dist" in str(caught.value)
    assert "give a run of pretrain/tokenizer, or its export" in str(caught.value)
