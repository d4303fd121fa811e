"""What is known to be wrong before anything starts: all of it, at once, and nothing is written."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mae_dist.config.load import load
from mae_dist.config.schema import RunConfig
from mae_dist.data import sources
from mae_dist.data.catalog import Catalog, Origin
from mae_dist.orchestrate.preflight import PreflightError, check_capacity, check_inputs


def save_catalog(folder: Path, labels: list[int], classes: list[str], name: str = "samples.parquet") -> str:
    """A catalog of images that need not be there; returns its path."""
    uri = str(folder / name)
    keys = [f"{number}.png" for number in range(len(labels))]
    Catalog.of(keys=keys, uris=keys, media="image", labels=labels, classes=classes).save(uri)
    return uri


@pytest.fixture
def labelled(tmp_path) -> str:
    return save_catalog(tmp_path, [0, 1, 0, 1], ["cat", "dog"])


@pytest.fixture
def config(tmp_path):
    """The demo's recipe with settings, its run directories in a folder that is not there yet."""

    def config(*settings: str) -> RunConfig:
        return load("pretrain/demo", [f"storage={tmp_path / 'runs'}", *settings])

    yield config
    assert not (tmp_path / "runs").exists()


def refusal(config: RunConfig) -> list[str]:
    """The lines of the message, the first without the rest of them."""
    with pytest.raises(PreflightError) as caught:
        check_inputs(config)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"demo: {len(lines) - 1} problem(s)"
    return [line.strip() for line in lines[1:]]


def test_drawn_samples_need_nothing_to_be_there(config):
    assert check_inputs(config()).digests == {
        "catalog": "drawn moving_clips samples=512 seed=1",
        "test_catalog": "drawn moving_clips samples=192 seed=2",
    }


def test_each_source_is_opened_once(config, labelled, monkeypatch):
    opened: list[str] = []
    original = sources.open_source
    monkeypatch.setattr(
        sources, "open_source", lambda source, **kind: (opened.append(source), original(source, **kind))[1]
    )
    inputs = check_inputs(
        config(f"data.catalog={labelled}", "data.test_catalog=drawn://moving_clips?samples=8")
    )
    assert opened == [labelled]
    assert inputs.digests["catalog"] == Catalog.load(labelled).digest
    assert {field: its.num_samples for field, its in inputs.catalogs.items()} == {
        "catalog": Catalog.load(labelled).num_samples
    }


def test_a_public_data_set_that_is_not_complete_is_warned_of(config, tmp_path, caplog):
    uri = str(tmp_path / "k400.parquet")
    Catalog.of(
        keys=["a"],
        uris=["a.mp4"],
        media="video",
        labels=[0],
        classes=["abseiling"],
        origin=Origin("kinetics400", "val", 19_796, ("b",) * 19_795),
    ).save(uri)
    check_inputs(config(f"data.catalog={uri}", "evaluations={}", "data.test_catalog=null"))
    [record] = caplog.records
    assert record.getMessage().startswith(
        "data.catalog: 1 samples, but val of kinetics400 has 19,796 where results are published: 19,795 fewer"
    )


def test_a_missing_catalog_is_named_with_its_field(config, tmp_path):
    where = tmp_path / "nowhere.parquet"
    assert refusal(config(f"data.catalog={where}")) == [f"data.catalog: {where}: no such file or folder"]


def test_an_empty_catalog_is_named(config, labelled, tmp_path):
    empty = tmp_path / "empty.parquet"
    pq.write_table(pq.read_table(labelled).slice(0, 0), empty)
    assert refusal(config(f"data.catalog={empty}")) == [
        f"data.catalog: {empty}: is an empty catalog; a run needs at least one sample"
    ]


def test_an_empty_folder_is_named_with_what_a_source_is(config, tmp_path):
    (tmp_path / "empty").mkdir()
    [problem] = refusal(config(f"data.catalog={tmp_path / 'empty'}"))
    assert problem.startswith(
        f"data.catalog: {tmp_path / 'empty'}: nothing is there, or the folder is empty; "
    )
    assert "a source is a folder of images, of videos" in problem


def test_parquet_without_images_is_named(config, tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["a"]}), folder / "0.parquet")
    [problem] = refusal(config(f"data.catalog={folder}"))
    assert problem.startswith(f"data.catalog: {folder}/0.parquet: ")


def test_a_drawing_that_does_not_exist_is_named(config):
    [problem] = refusal(config("data.catalog=drawn://circles?samples=3"))
    assert problem.startswith("data.catalog: drawn://circles?samples=3: no such drawing; give drawn://NAME?")


def test_a_missing_bucket_is_named_for_samples_and_for_storage(s3_bucket, config):
    missing = f"{s3_bucket}-not"
    name = missing.removeprefix("s3://")
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    problems = refusal(config(f"storage={missing}/runs", f"data.catalog={missing}/videos"))
    advice = f"no bucket '{name}' at {endpoint}; create it, or correct the name or AWS_ENDPOINT_URL"
    assert len(problems) == 2
    assert problems[0].startswith(f"storage: {missing}/runs: ")
    assert problems[1].startswith(f"data.catalog: {missing}/videos: ")
    assert all(problem.endswith(advice) for problem in problems)


def test_missing_credentials_are_named_once_for_each_place(s3_server, aws_env, config, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    problems = refusal(config("storage=s3://bucket/runs", "data.catalog=s3://bucket/videos"))
    assert [problem.partition(": s3://")[0] for problem in problems] == ["storage", "data.catalog"]
    for problem in problems:
        assert "no usable credentials" in problem
        assert (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
            in (problem)
        )


def test_storage_that_is_a_file_is_named(config, tmp_path):
    (tmp_path / "file").touch()
    [problem] = refusal(config(f"storage={tmp_path / 'file' / 'runs'}"))
    assert problem == (
        f"storage: {tmp_path}/file/runs: cannot write: {tmp_path}/file is a file, not a folder"
    )


def test_evaluations_without_test_samples_are_refused(config):
    assert refusal(config("data.test_catalog=null")) == [
        "data.test_catalog: the evaluations need samples to be scored on; give "
        "--set data.test_catalog=URI, or --set evaluations={} for none"
    ]


def test_evaluations_of_unlabelled_samples_are_refused(config, tmp_path):
    unlabelled = save_catalog(tmp_path, [-1, -1], [])
    assert refusal(config(f"data.catalog={unlabelled}")) == [
        "data.catalog: its samples have 0 classes, and the evaluations need at least two; give labelled "
        "samples, or --set evaluations={} for none"
    ]


def test_evaluations_of_partly_labelled_samples_are_refused_with_their_number(config, tmp_path):
    partly = save_catalog(tmp_path, [0, -1, 1, -1], ["cat", "dog"])
    assert refusal(config(f"data.catalog={partly}")) == [
        "data.catalog: 2 of its 4 samples have no label, and the evaluations need one for each; give "
        "labelled samples, or --set evaluations={} for none"
    ]


def test_unlabelled_samples_do_for_a_pretraining_alone(config, tmp_path):
    unlabelled = save_catalog(tmp_path, [-1, -1], [])
    nulls = ["evaluations.linear_probe=null", "evaluations.finetune=null"]
    settings = [f"data.catalog={unlabelled}", "data.test_catalog=null", *nulls]
    assert check_inputs(config(*settings)).digests == {"catalog": Catalog.load(unlabelled).digest}


def test_test_samples_whose_labels_mean_something_else_are_refused(config, labelled, tmp_path):
    other = save_catalog(tmp_path, [0, 1], ["cat", "cow"], "other.parquet")
    assert refusal(config(f"data.catalog={labelled}", f"data.test_catalog={other}")) == [
        "data.test_catalog: label 1 is 'cow' here and 'dog' in the training samples (2 and 2 classes); both "
        "need the same classes, numbered alike"
    ]


def test_test_samples_may_lack_the_last_classes_but_not_have_more(config, labelled, tmp_path):
    more = save_catalog(tmp_path, [0, 1, 2], ["cat", "dog", "eel"], "more.parquet")
    check_inputs(config(f"data.catalog={more}", f"data.test_catalog={labelled}"))
    [problem] = refusal(config(f"data.catalog={labelled}", f"data.test_catalog={more}"))
    assert "label 2 is 'eel' here and None in the training samples" in problem


def test_every_problem_is_told_at_once(config, tmp_path):
    (tmp_path / "file").touch()
    settings = [f"storage={tmp_path / 'file' / 'runs'}", "data.catalog=nowhere", "data.test_catalog=null"]
    assert [line.partition(":")[0] for line in refusal(config(*settings))] == [
        "storage",
        "data.catalog",
        "data.test_catalog",
    ]


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [("auto", 0, False), ("auto", 2, True), ("cpu", 2, False), ("gpu", 2, True)],
)
def test_gpus_are_used_where_there_are_some_or_where_they_are_asked_for(config, device, gpus, expected):
    capacity = {"CPU": 8.0, "GPU": float(gpus)}
    assert check_capacity(config(f"resources.device={device}"), capacity) is expected


def test_more_gpus_than_the_cluster_can_have_are_refused(config):
    with pytest.raises(PreflightError) as caught:
        check_capacity(config("resources.device=gpu"), {"CPU": 8.0, "GPU": 1.0})
    assert str(caught.value).splitlines() == [
        "demo: 1 problem(s)",
        "  resources.workers: 2 workers need as many GPUs, the cluster has at most 1; lower "
        "resources.workers or set resources.device=cpu",
    ]


def test_more_cpus_than_the_cluster_can_have_are_refused(config):
    """2 workers of 3 and one decode task of 1."""
    with pytest.raises(PreflightError) as caught:
        check_capacity(config("resources.cpus_per_worker=3"), {"CPU": 6.5})
    assert str(caught.value).splitlines() == [
        "demo: 1 problem(s)",
        "  resources: 2 worker(s) of 3 CPUs and one decode task of 1 need 7 CPUs, the cluster has at "
        "most 6.5; lower resources.workers, resources.cpus_per_worker or data.cpus_per_task",
    ]
    assert check_capacity(config("resources.cpus_per_worker=3"), {"CPU": 7.0}) is False


def test_a_range_of_workers_needs_room_for_the_least(config):
    given = config("resources.workers=[1, 2]", "resources.device=gpu", "resources.cpus_per_worker=3")
    assert check_capacity(given, {"CPU": 4.0, "GPU": 1.0}) is True
    with pytest.raises(PreflightError, match=r"resources\.workers: 1 workers need as many GPUs"):
        check_capacity(given, {"CPU": 4.0, "GPU": 0.0})


def test_decoding_needs_a_whole_cpu(config):
    """Ray Data is given no part of one, and would wait for ever."""
    given = config("resources.cpus_per_worker=1.75", "data.cpus_per_task=0.5")
    with pytest.raises(PreflightError, match=r"one decode task of 1 need 4\.5 CPUs, the cluster has"):
        check_capacity(given, {"CPU": 4.0})


def test_a_decode_resource_that_no_node_carries_is_told_before_anything_starts(config, caplog):
    """An error where no other node can join, a warning where one may."""
    given = config("data.decode_resource=decoder")
    with pytest.raises(PreflightError) as caught:
        check_capacity(given, {"CPU": 4.0, "GPU": 0.0}, is_alone=True)
    said = (
        "data.decode_resource: no node of the cluster carries the resource 'decoder', which decoding waits "
        "for; it has 4 CPU, 0 GPU. Add such a node (ray start --resources='{\"decoder\": 8}' ...), correct "
        "data.decode_resource, or set it to null to decode on every node"
    )
    assert f"  {said}; a cluster that has one is named by RAY_ADDRESS" in str(caught.value).splitlines()
    check_capacity(given, {"CPU": 4.0, "GPU": 0.0})
    check_capacity(given, {"CPU": 4.0, "decoder": 2.0}, is_alone=True)
    assert [record.message for record in caplog.records] == [said]


def test_a_tracking_server_that_cannot_be_told_is_refused_before_anything_starts(config, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    [problem] = refusal(config("log.mlflow=http://tracking:5000"))
    assert problem.startswith(
        "log.mlflow: http://tracking:5000 is to be told, but mlflow is not installed here;"
    )
