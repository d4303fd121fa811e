"""A run on several catalogs: what it refuses, what decides its results, and what is written down."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mae_dist import storage
from mae_dist.config.load import load
from mae_dist.config.schema import RunConfig
from mae_dist.data.catalog import Catalog
from mae_dist.data.mix import Mix, load_samples
from mae_dist.orchestrate import experiment
from mae_dist.orchestrate.experiment import Job, build_steps, run_uri
from mae_dist.orchestrate.preflight import PreflightError, check_inputs
from mae_dist.orchestrate.provenance import record
from mae_dist.train.training import Training
from tests.orchestrate.test_preflight import save_catalog


@pytest.fixture
def config(tmp_path):
    """The demo's recipe on a mix of two catalogs, 4 : 1, of which `clips` has the classes of the test set."""
    save_catalog(tmp_path, [0, 1, 0, 1], ["cat", "dog"], "clips.parquet")
    save_catalog(tmp_path, [0, 1, 2], ["ant", "bee", "cow"], "stills.parquet")
    save_catalog(tmp_path, [1, 0], ["cat", "dog"], "test.parquet")

    def config(*settings: str, **sources: str) -> RunConfig:
        sources = {"clips": "clips.parquet", "stills": "stills.parquet"} | sources
        weights = {"clips": 0.8, "stills": 0.2}
        mix = {
            name: {"catalog": f"{tmp_path}/{file}", "weight": weights.get(name, 1)}
            for name, file in sources.items()
        }
        own = [
            "data.catalog=null",
            f"data.mix={json.dumps(mix)}",
            f"data.test_catalog={tmp_path}/test.parquet",
        ]
        return load("pretrain/demo", [f"storage={tmp_path / 'runs'}", *own, *settings])

    return config


def refusal(config: RunConfig) -> list[str]:
    with pytest.raises(PreflightError) as caught:
        check_inputs(config)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def digest_of(config: RunConfig, name: str) -> str:
    return Catalog.load(config.data.mix[name].catalog).digest


def test_what_stands_for_a_mix_names_every_digest_and_weight(config):
    mixed = config("data.labelled=clips")
    clips, stills = digest_of(mixed, "clips"), digest_of(mixed, "stills")
    inputs = check_inputs(mixed).digests
    assert inputs["catalog"] == f"mix of 4 x {clips}, 1 x {stills}"
    assert inputs["labelled"] == clips
    assert inputs["test_catalog"] == Catalog.load(str(mixed.data.test_catalog)).digest


def test_other_weights_or_catalogs_make_another_run_and_other_names_do_not(config):
    def uri(*settings: str, **sources: str) -> str:
        given = config("evaluations={}", *settings, **sources)
        return run_uri(given, check_inputs(given).digests)

    assert uri("data.mix.clips.weight=0.7") != uri()
    assert uri(stills="test.parquet") != uri()
    renamed = config("evaluations={}", "data.mix.stills=null", zebras="stills.parquet")
    same = "data.mix.zebras.weight=0.2"
    assert uri("data.mix.stills=null", same, zebras="stills.parquet") == uri()
    assert list(renamed.data.mix) == ["clips", "zebras"]


def test_a_missing_source_is_named_with_its_field(config, tmp_path):
    problems = refusal(config("evaluations={}", stills="nowhere.parquet"))
    assert problems == [f"data.mix.stills.catalog: {tmp_path}/nowhere.parquet: no such file or folder"]


def test_classes_may_differ_for_pretraining_alone(config):
    check_inputs(config("evaluations={}"))


def test_evaluations_on_classes_that_differ_are_refused_with_a_way_out(config):
    both = (
        "label 0 is 'cat' here and 'ant' in data.mix.stills.catalog (2 and 3 classes); both need the same "
        "classes, numbered alike; or say which source evaluations train on with data.labelled"
    )
    assert refusal(config()) == [f"data.mix.clips.catalog: {both}", f"data.test_catalog: {both}"]
    check_inputs(config("data.labelled=clips"))


def test_the_labelled_source_must_have_the_classes_of_the_test_samples(config):
    [problem] = refusal(config("data.labelled=stills"))
    assert problem.startswith("data.test_catalog: label 0 is 'cat' here and 'ant' in the training samples")


def test_evaluations_on_a_mix_of_one_list_of_classes_are_fine(config):
    check_inputs(config(stills="test.parquet"))


def test_an_unlabelled_source_keeps_evaluations_from_the_whole_mix(config, tmp_path):
    save_catalog(tmp_path, [-1, -1], [], "bare.parquet")
    [problem] = refusal(config(stills="bare.parquet"))
    assert problem == (
        "data.mix.stills.catalog: its samples have 0 classes, and the evaluations need at least two; give "
        "labelled samples, or --set evaluations={} for none; or say which source evaluations train on with "
        "data.labelled"
    )
    check_inputs(config("data.labelled=clips", stills="bare.parquet"))


def test_another_labelled_source_repeats_the_evaluations_and_not_the_pretraining(config):
    def keys(labelled: str) -> dict[str, str]:
        inputs = {"catalog": "mix", "test_catalog": "test", "labelled": f"digest of {labelled}"}
        steps = build_steps(config(f"data.labelled={labelled}"), inputs, use_gpu=False)
        return {step.name: step.key for step in steps}

    one, other = keys("clips"), keys("stills")
    assert one["pretrain"] == other["pretrain"]
    assert {name for name in one if one[name] != other[name]} == {
        name for name in one if name.startswith(("linear_probe", "finetune"))
    }


def test_the_catalog_step_keeps_the_mix_and_the_run_names_all_of_it(config, tmp_path):
    mixed = config("data.labelled=clips")
    run = str(tmp_path / "runs" / "one")
    train = storage.join(run, "catalog", "train")
    summary = experiment.make_catalog(Job(config=mixed, use_gpu=False), train, {})
    mix = load_samples(storage.join(train, "mix.json"))
    assert isinstance(mix, Mix)
    assert (summary["digest"], summary["num_samples"]) == (mix.digest, 7)

    record(run, mixed, cluster={}, use_gpu=False)
    experiment.run_report(Job(config=mixed, use_gpu=False), storage.join(run, "report"), {})
    known = storage.read_json(storage.join(run, "environment.json"))["catalog"]
    assert known["digest"] == mix.digest
    assert known["sources"]["clips"] == {
        "uri": f"{tmp_path}/clips.parquet",
        "digest": digest_of(mixed, "clips"),
        "num_samples": 4,
        "share": 0.8,
    }
    page = storage.read_bytes(storage.join(run, "report", "index.html")).decode()
    assert "mix of clips, stills (7 clips)" in page
    assert f"{tmp_path}/stills.parquet (3 samples), 20.0 % of the stream" in page
    assert digest_of(mixed, "stills") in page


def test_drawn_sources_get_folders_of_their_own(config, tmp_path):
    mix = {
        "few": {"catalog": "drawn://moving_clips?samples=2&seed=1", "weight": 1},
        "more": {"catalog": "drawn://moving_clips?samples=3&seed=1", "weight": 1},
    }
    mixed = config(f"data.mix={json.dumps({'clips': None, 'stills': None} | mix)}")
    train = str(tmp_path / "train")
    experiment.make_catalog(Job(config=mixed, use_gpu=False), train, {})
    rows = load_samples(f"{train}/mix.json").rows(np.arange(5))
    assert len({row.uri for row in rows}) == 5


def test_a_training_counts_an_epoch_of_all_samples_together(config, tmp_path):
    mixed = config("train.length=16 epochs", "train.global_batch=4", "train.micro_batch=2")
    experiment.make_catalog(Job(config=mixed, use_gpu=False), str(tmp_path), {})
    training = Training(config=mixed, output="out", catalog=f"{tmp_path}/mix.json")
    samples = training.training_samples()
    assert training.schedule(samples).total_steps == 16 * 7 / 4
    assert training.pace(samples, world=2).samples_per_epoch == 7


def test_evaluations_train_on_the_labelled_source_alone(config, tmp_path, monkeypatch):
    mixed = config("data.labelled=stills")
    train = str(tmp_path / "train")
    experiment.make_catalog(Job(config=mixed, use_gpu=False), train, {})
    seen: list[Training] = []
    monkeypatch.setattr(experiment, "evaluate_encoder", lambda training, **_: seen.append(training) or {})
    monkeypatch.setattr(experiment, "run_training", lambda training, **_: seen.append(training) or {})
    job = Job(config=mixed, use_gpu=False, evaluation="finetune", start_from="random")
    experiment.run_evaluation(job, "out", {"catalog": train, "test_catalog": "test"})
    experiment.run_pretraining(job, "out", {"catalog": train})
    evaluated, pretrained = (training.training_samples() for training in seen)
    assert evaluated.digest == digest_of(mixed, "stills")
    assert isinstance(pretrained, Mix)
