"""What is known to be wrong about boxes before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mae_dist.config.load import load
from mae_dist.config.schema import RunConfig
from mae_dist.data.catalog import Catalog
from mae_dist.orchestrate.experiment import build_steps
from mae_dist.orchestrate.preflight import PreflightError, check_inputs

BOX = {"x1": 0.1, "y1": 0.1, "x2": 0.5, "y2": 0.9, "person": 1, "labels": [0]}
EVERY_ACTION = "evaluations.ava.detection.actions=null"


def save_keyframes(uri: Path, *, video: str, classes: tuple[str, ...] = ("sit", "talk")) -> str:
    """A catalog of two keyframes of a video that need not be there."""
    Catalog.of(
        keys=[f"{video}/0902", f"{video}/0903"],
        uris=[f"{video}.mp4"] * 2,
        media="video",
        labels=[-1, -1],
        classes=classes,
        times=[902.0, 903.0],
        boxes=[[BOX], [BOX]],
    ).save(str(uri))
    return str(uri)


@pytest.fixture
def config(tmp_path):
    train, test = (save_keyframes(tmp_path / f"{its}.parquet", video=its) for its in ("train", "test"))

    def config(*settings: str, **changes: Any) -> RunConfig:
        catalogs = {"catalog": train, "test_catalog": test} | changes
        given = [f"data.{name}={uri}" for name, uri in catalogs.items()]
        only = ["evaluations={}", "evaluations={ava: {extends: finetune/ava.yaml}}"]
        return load("pretrain/k400", [f"storage={tmp_path}", *given, *only, *settings])

    return config


@pytest.fixture
def people(tmp_path) -> Path:
    (tmp_path / "people.csv").write_text("test,0902,0.1,0.1,0.5,0.9,,0.9\n")
    return tmp_path / "people.csv"


def refusal(config: RunConfig) -> list[str]:
    with pytest.raises(PreflightError) as caught:
        check_inputs(config)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_keyframes_need_no_label_of_their_own(config, people):
    inputs = check_inputs(config(EVERY_ACTION, f"evaluations.ava.detection.boxes={people}")).digests
    assert set(inputs) == {"catalog", "test_catalog", "people of ava"}


def test_other_people_are_another_evaluation_of_the_same_run(config, people):
    asked = config(EVERY_ACTION, f"evaluations.ava.detection.boxes={people}")

    def identities() -> dict[str, Any]:
        return {
            step.name: step.identity
            for step in build_steps(asked, check_inputs(asked).digests, use_gpu=False)
        }

    before = identities()
    people.write_text("test,0903,0.1,0.1,0.5,0.9,,0.9\n")
    after = identities()
    assert [name for name in before if before[name] != after[name]] == ["ava-pretrained"]


def test_samples_without_boxes_are_refused(config, tmp_path):
    plain = str(tmp_path / "plain.parquet")
    Catalog.of(keys=["a"], uris=["a.mp4"], media="video", labels=[0], classes=["sit", "talk"]).save(plain)
    assert refusal(config(EVERY_ACTION, catalog=plain)) == [
        "data.catalog: its samples have no boxes, which detect needs; give a catalog of keyframes (mae-dist "
        "catalog build --kind ava), or leave the evaluation out"
    ]


def test_a_classification_beside_detection_still_needs_labels(config):
    problems = refusal(config(EVERY_ACTION, "evaluations.probe={extends: probe/k400.yaml}"))
    assert [problem.partition(";")[0] for problem in problems] == [
        f"data.{field}: 2 of its 2 samples have no label, and the evaluations need one for each"
        for field in ("catalog", "test_catalog")
    ]


def test_actions_that_the_catalog_does_not_have_are_refused(config):
    assert refusal(config()) == [
        "evaluations.ava.detection.actions: action 80, but data.test_catalog has 2; name some of those, or "
        "null for all"
    ]


def test_lists_that_cannot_be_used_are_told_together(config, tmp_path):
    (tmp_path / "people.csv").write_text("test,0902,10,10,50,90,,0.9\n")
    settings = [f"evaluations.ava.detection.boxes={tmp_path}/people.csv"]
    settings += [f"evaluations.ava.detection.excluded={tmp_path}/gone.csv", EVERY_ACTION]
    boxes, excluded = refusal(config(*settings))
    assert boxes.startswith("evaluations.ava.detection.boxes: ")
    assert "a corner at 90; corners are in parts of the frame's width and height" in boxes
    assert excluded.startswith("evaluations.ava.detection.excluded: ")
    assert "gone.csv" in excluded


def test_people_of_another_split_are_refused(config, people):
    people.write_text("train,0902,0.1,0.1,0.5,0.9,,0.9\n")
    [problem] = refusal(config(EVERY_ACTION, f"evaluations.ava.detection.boxes={people}"))
    assert problem == (
        "evaluations.ava.detection.boxes: people were found in 1 keyframes (as train/0902), but in none of "
        "the test catalog's videos (as test); is it the file of another split?"
    )


def test_actions_numbered_otherwise_in_the_test_are_refused(config, tmp_path):
    other = save_keyframes(tmp_path / "other.parquet", video="test", classes=("talk", "sit"))
    [problem] = refusal(config(EVERY_ACTION, test_catalog=other))
    assert problem.startswith("data.test_catalog: label 0 is 'talk' here and 'sit' in the training samples")
