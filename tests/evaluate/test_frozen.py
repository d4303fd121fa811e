"""Evaluations of frozen features from samples to result.json, without Ray."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mae_dist import storage
from mae_dist.evaluate import frozen
from mae_dist.evaluate.cluster import Placement, num_encoders
from mae_dist.evaluate.frozen import FrozenEvaluation, evaluate_frozen, extract_features
from mae_dist.evaluate.probing import DivergedError, best_of
from tests.evaluate.frozen_encoder import drawn, embedded_here, run_config

PLACEMENT = Placement(workers=1, cpus_per_worker=1, use_gpu=False, cpus_per_task=1)
HERE = torch.device("cpu")


@pytest.fixture(autouse=True)
def without_ray(monkeypatch):
    monkeypatch.setattr(frozen, "embedded", lambda given, samples, _: embedded_here(given, samples))
    monkeypatch.setattr(frozen, "on_worker", lambda work, _: work(HERE))


def job(folder, *settings: str) -> FrozenEvaluation:
    config = run_config(folder, *settings)
    for part in ("train", "test"):
        drawn(folder, part, config).save(f"{folder}/{part}.parquet")
    return FrozenEvaluation(
        config=config,
        name="probe",
        catalog=f"{folder}/train.parquet",
        test_catalog=f"{folder}/test.parquet",
        output=f"{folder}/features",
        placement=PLACEMENT,
    )


def evaluated(folder, *settings: str) -> dict:
    given = job(folder, *settings)
    extract_features(given, weights=None)
    here = dataclasses.replace(given, output=f"{folder}/out")
    result = evaluate_frozen(here, features=given.output, start_from="random")
    assert storage.read_json(f"{folder}/out/result.json") == result
    return result


NO_POOLS = ["evaluations.probe.features.layers=[-1]", "evaluations.probe.features.pools=[mean]"]
WITHOUT_HEADS = ["evaluations.probe.heads={}", "evaluations.probe.protocol=knn"]


@pytest.mark.parametrize(
    ("settings", "tried"),
    [
        ([], 8),
        (["evaluations.probe.features.drawn_views=3"], 8),
        (["evaluations.probe.protocol=attentive_probe", "evaluations.probe.attentive.heads=8", *NO_POOLS], 2),
    ],
)
def test_the_best_head_on_held_out_samples_is_scored_on_the_test(tmp_path, settings, tried):
    result = evaluated(tmp_path, *settings)
    assert result["num_samples"] == sum(entry["total"] for entry in result["per_class"]) == 10
    assert result["metric"] == "top1"
    assert result["interval"][0] <= result["value"] <= result["interval"][1]
    assert result["start_from"] == "random"
    table = result["table"]
    assert len(table) == result["settings"]["tried"] == tried
    assert result["settings"]["validation"] == max(entry["validation"] for entry in table)
    chosen = {name: result["settings"][name] for name in table[0]}
    assert chosen in table


def test_neighbours_and_features_are_chosen_on_held_out_samples(tmp_path):
    result = evaluated(tmp_path, *WITHOUT_HEADS, "evaluations.probe.knn.neighbours=[1, 5]")
    assert len(result["table"]) == 2 * 2 * 2
    assert result["settings"]["neighbours"] in (1, 5)
    assert result["protocol"] == "knn"
    assert result["num_samples"] == 10


def test_an_evaluation_gives_the_same_numbers_again(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = (evaluated(tmp_path / name) for name in ("a", "b"))
    assert first == second


def test_features_that_are_there_are_used_again(tmp_path, monkeypatch):
    given = job(tmp_path)
    extract_features(given, weights=None)

    def nobody(*_):
        raise AssertionError("nothing is left to embed")

    monkeypatch.setattr(frozen, "embedded", lambda *_: nobody)
    summary = extract_features(given, weights=None)
    assert (summary["train"]["views"], summary["test"]["views"]) == (24, 10)
    progress = storage.read_json(f"{given.output}/progress.json")
    assert progress["text"] == "test features, block 2/2"


def test_labels_that_mean_something_else_are_refused_before_anything_is_decoded(tmp_path):
    given = job(tmp_path)
    test = drawn(tmp_path, "test", given.config)
    dataclasses.replace(test, classes=tuple(reversed(test.classes))).save(given.test_catalog)
    with pytest.raises(ValueError, match=r"test\.parquet: label 0 is "):
        extract_features(given, weights=None)
    assert not storage.exists(given.output)


def test_too_few_samples_to_hold_some_out_are_refused_before_anything_is_decoded(tmp_path):
    given = job(tmp_path, "evaluations.probe.labels_per_class=1")
    with pytest.raises(ValueError, match="of 10 samples is less than half a sample in every class"):
        extract_features(given, weights=None)
    assert not storage.exists(given.output)


def test_heads_that_all_diverged_are_no_result():
    assert best_of([0.2, None, 0.4, 0.4]) == 2
    with pytest.raises(DivergedError, match=r"none of the 2 heads has finite weights; give smaller"):
        best_of([None, None])


@pytest.mark.parametrize(
    ("workers", "cpus", "encoders"), [(4, 16.0, 4), (4, 3.0, 2), (4, 1.0, 1), (1, 64.0, 1)]
)
def test_encoders_leave_room_for_decoding(workers, cpus, encoders):
    """Half a CPU is a decode task's, one an encoder's."""
    given = dataclasses.replace(PLACEMENT, workers=workers, cpus_per_task=0.5)
    assert num_encoders(given, cpus) == encoders
