"""From videos in a bucket to a report in a bucket, with one clip that cannot be read."""

from __future__ import annotations

import pytest
import yaml

from mae_dist import storage
from mae_dist.data.keys import rng
from mae_dist.data.synthetic import MOTIONS, moving_clip
from mae_dist.data.video import encode_h264
from tests.integration import small_run

pytestmark = pytest.mark.slow

CLASSES = list(MOTIONS)[:2]


def put_videos(folder: str, *, seed: int, corrupt: bool) -> None:
    for index in range(12):
        motion = index % 2
        data = encode_h264(moving_clip(rng(seed, 0, index, "clip"), motion, size=48), 8)
        if corrupt and index == 5:
            data = data[:600] + bytes(len(data) - 600)
        storage.write_bytes(storage.join(folder, CLASSES[motion], f"{index:03d}.mp4"), data)


@pytest.fixture(scope="module")
def finished(s3_server, tmp_path_factory):
    """(what was printed, URI of the run directory), with the environment set to read it."""
    folder = tmp_path_factory.mktemp("whole")
    import boto3

    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.env.items():
            patch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=s3_server.endpoint)
        client.create_bucket(Bucket="whole")
        client.close()
        put_videos("s3://whole/train", seed=0, corrupt=True)
        put_videos("s3://whole/test", seed=1, corrupt=False)
        recipe = small_run.recipe(
            folder / "small.yaml",
            "s3://whole/runs",
            data={
                "catalog": "s3://whole/train",
                "test_catalog": "s3://whole/test",
                "cpus_per_task": 0.5,
            },
            evaluations={
                "linear_probe": small_run.EVALUATION | {"protocol": "linear_probe"},
                "finetune": small_run.EVALUATION | {"protocol": "finetune", "start_from": ["pretrained"]},
            },
        )
        output = small_run.run(recipe, folder / "home", **s3_server.env)
        (name,) = storage.list_dir("s3://whole/runs")
        yield output, f"s3://whole/runs/{name}"


def test_the_report_tells_every_evaluation_and_where_it_lies(finished):
    output, uri = finished
    report = storage.read_json(f"{uri}/report/report.json")
    assert report["state"] == "complete"
    evaluations = {entry["name"]: entry for entry in report["evaluations"]}
    assert evaluations["linear_probe"]["pretrained"]["num_samples"] == 12
    assert evaluations["linear_probe"]["random"]["num_samples"] == 12
    assert evaluations["finetune"]["random"] is None
    assert f"{uri}/report/index.html" in output
    assert b"<html" in storage.read_bytes(f"{uri}/report/index.html")


def test_the_corrupt_clip_is_named_with_its_replacement(finished):
    _, uri = finished
    faults = [yaml.safe_load(line) for line in storage.read_bytes(f"{uri}/faults.jsonl").splitlines()]
    assert faults
    for fault in faults:
        assert fault["uri"].endswith("train/left/005.mp4")
        assert fault["reason"]
        assert fault["replaced_by"] != fault["sample"]


def test_the_reconstruction_is_compared_on_the_held_out_clips(finished):
    _, uri = finished
    result = storage.read_json(f"{uri}/evaluations/reconstruction/result.json")
    assert result["num_samples"] == 12
    assert result["num_hidden_tokens"] == 12 * 2 * 12


def test_no_credential_is_in_anything_the_run_wrote(finished):
    output, uri = finished
    assert "test-secret" not in output
    for file in storage.walk_files(uri):
        assert b"test-secret" not in storage.read_bytes(file.uri), file.uri
