"""`mae-dist run` and the job scripts on bad input: one screen, status 2, nothing started, nothing written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from rich.console import Console

from mae_dist.cli.display import COLOURS, StepDisplay
from mae_dist.cli.main import main as mae_dist
from mae_dist.cli.run import main
from mae_dist.orchestrate import cluster
from mae_dist.orchestrate.state import State, StepStatus
from mae_dist.orchestrate.step import Step
from tests.orchestrate.test_preflight import save_catalog

ROOT = Path(__file__).parents[2]
KINDS = "random, block, grid, tube, multi_block, frame, causal"
SCREEN_LINES = 30


@pytest.fixture
def runs(tmp_path) -> Path:
    """Where run directories would be made."""
    return tmp_path / "runs"


@pytest.fixture
def refused(runs, capsys, monkeypatch):
    """Runs the demo's recipe with settings that cannot work; returns the lines of the complaint.

    Other tests of this process may have a Ray of their own, so that it is the connection that must not be
    made here; one test below looks at a process of its own.
    """
    monkeypatch.setattr(cluster, "is_cluster_running", lambda: False)
    monkeypatch.setattr(cluster, "connect", lambda: pytest.fail("Ray was started"))

    def refused(*settings: str, recipe: str = "pretrain/demo", storage: str | None = None) -> list[str]:
        arguments = ["--storage", storage or str(runs)]
        for setting in settings:
            arguments += ["--set", setting]
        assert main(recipe, arguments) == 2
        error = capsys.readouterr().err
        lines = error.splitlines()
        assert 1 <= len(lines) <= SCREEN_LINES
        assert "Traceback" not in error
        return lines

    yield refused
    assert not runs.exists()


def test_an_unknown_recipe_is_answered_with_one_that_exists(refused):
    [heading, problem] = refused(recipe="pretrain/k40")
    assert heading == "pretrain/k40: 1 problem(s)"
    assert "no recipe 'pretrain/k40'; did you mean 'pretrain/k400'?" in problem


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("mask.rato=0.5", "mask.rato: no such field; did you mean 'ratio'? (from --set mask.rato=0.5)"),
        ("mask.kind=tub", f"mask.kind: must be one of {KINDS}, got 'tub'; did you mean 'tube'?"),
        (
            "train.global_batch=40",
            "train.global_batch: must be a multiple of micro_batch * workers = 16 * 2 = 32, got 40; ",
        ),
    ],
    ids=["field", "value", "global batch"],
)
def test_a_mistake_in_the_recipe_is_told_with_what_would_be_right(refused, setting, problem):
    [heading, line] = refused(setting)
    assert heading == "pretrain/demo: 1 problem(s)"
    assert line.strip().startswith(problem)


def test_missing_samples_are_told(refused, tmp_path):
    assert refused(f"data.catalog={tmp_path}/nowhere") == [
        "demo: 1 problem(s)",
        f"  data.catalog: {tmp_path}/nowhere: no such file or folder",
    ]


def test_a_missing_bucket_is_told_and_not_created(refused, s3_bucket):
    import boto3

    missing = f"{s3_bucket}-not"
    [heading, line] = refused(storage=f"{missing}/runs")
    assert heading == "demo: 1 problem(s)"
    assert re.match(
        rf"  storage: {missing}/runs: cannot write: no bucket '.*-not' at http://.*; create it, or correct",
        line,
    )
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    assert f"{missing}".removeprefix("s3://") not in [b["Name"] for b in client.list_buckets()["Buckets"]]
    client.close()


def test_a_refused_run_leaves_nothing_in_a_bucket(refused, s3_bucket):
    import boto3

    refused("resources.cpus_per_worker=10000", storage=f"{s3_bucket}/runs")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    bucket = s3_bucket.removeprefix("s3://")
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    client.close()


def test_missing_credentials_are_told(refused, s3_server, aws_env, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    [_, line] = refused("data.catalog=s3://bucket/videos")
    assert line.startswith("  data.catalog: s3://bucket/videos: cannot read: no usable credentials (")
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in line


def test_evaluations_without_test_samples_are_told(refused):
    [_, line] = refused("data.test_catalog=null")
    assert line.startswith("  data.test_catalog: the evaluations need samples to be scored on; give --set")


def test_evaluations_of_unlabelled_samples_are_told(refused, tmp_path):
    [_, line] = refused(f"data.catalog={save_catalog(tmp_path, [-1, -1], [])}")
    assert line.startswith(
        "  data.catalog: its samples have 0 classes, and the evaluations need at least two"
    )


def test_more_gpus_than_there_can_be_are_told(refused):
    workers = torch.cuda.device_count() + 1
    batches = [f"train.global_batch={16 * workers}"] + [
        f"evaluations.{name}.train.global_batch={16 * workers}" for name in ("linear_probe", "finetune")
    ]
    lines = refused("resources.device=gpu", f"resources.workers={workers}", *batches)
    assert lines[1].startswith(
        f"  resources.workers: {workers} workers need as many GPUs, the cluster has at"
    )
    assert lines[1].endswith("lower resources.workers or set resources.device=cpu")


def test_more_cpus_than_there_are_are_told(refused):
    [_, line] = refused("resources.cpus_per_worker=10000")
    assert line.startswith("  resources: 2 worker(s) of 10000 CPUs and one decode task of 1 need 20001 CPUs")
    assert "lower resources.workers, resources.cpus_per_worker or data.cpus_per_task" in line


def test_the_same_is_told_by_the_command_of_the_package(runs, capsys):
    assert mae_dist(["run", "pretrain/demo", "--storage", str(runs), "--set", "sed=1"]) == 2
    assert "sed: no such field; did you mean 'seed'?" in capsys.readouterr().err
    assert not runs.exists()


def test_a_dry_run_prints_the_steps_and_starts_nothing(runs, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "is_cluster_running", lambda: False)
    monkeypatch.setattr(cluster, "connect", lambda: pytest.fail("Ray was started"))
    assert main("pretrain/demo", ["--storage", str(runs), "--dry-run", "--set", "resources.device=cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"run directory  {runs}/demo-")
    assert lines[2].split() == ["catalog", "1", "CPUs,", "0", "GPUs;", "after", "nothing"]
    assert lines[-2].startswith("report ")
    assert lines[-1].startswith("in all ")
    assert not runs.exists()


def test_a_run_that_another_driver_holds_is_left_alone(runs, capsys, monkeypatch):
    """The holder is a process that lives; the one that is refused neither waits nor starts anything."""
    monkeypatch.setattr(cluster, "is_cluster_running", lambda: False)
    monkeypatch.setattr(cluster, "connect", lambda: pytest.fail("Ray was started"))
    assert main("pretrain/demo", ["--storage", str(runs), "--dry-run"]) == 0
    run = capsys.readouterr().out.split("run directory  ")[1].splitlines()[0]
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "holding\n"
        before = sorted(path.name for path in Path(run).rglob("*"))
        assert main("pretrain/demo", ["--storage", str(runs)]) == 3
        error = capsys.readouterr().err
        assert error.startswith(f"{run}: another driver works on this run: process {holder.pid} on ")
        assert f"mae-dist status {run} " in error
        assert error.endswith("--set name=...\n")
        assert sorted(path.name for path in Path(run).rglob("*")) == before
        assert before == ["000001.json", "000001.settled", "drivers"]
    finally:
        holder.communicate("\n", timeout=60)


_HOLD = """
import sys
from mae_dist.orchestrate.store import DriverLock
with DriverLock(sys.argv[1]):
    print("holding", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_a_job_script_that_is_refused_has_started_no_ray(runs):
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: import ray; print('status', end.code, 'ray', ray.is_initialized())"
    )
    job = [str(ROOT / "jobs" / "demo.py"), "--storage", str(runs), "--set", "resources.cpus_per_worker=10000"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", code, *job], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "status 2 ray False"
    assert done.stderr.splitlines()[0] == "demo: 1 problem(s)"
    assert "Traceback" not in done.stderr
    assert not runs.exists()


@pytest.mark.slow
def test_a_cluster_that_is_joined_and_too_small_is_told_before_anything_is_written(ray_cluster, runs, capsys):
    """The test's cluster has 6 CPUs."""
    arguments = [
        "--storage",
        str(runs),
        "--set",
        "resources.device=cpu",
        "--set",
        "resources.cpus_per_worker=3",
    ]
    assert main("pretrain/demo", arguments) == 2
    assert "need 7 CPUs, the cluster has at most 6;" in capsys.readouterr().err
    assert not runs.exists()


@pytest.mark.slow
def test_an_address_where_no_cluster_answers_is_told(runs):
    environment = os.environ | {"RAY_ADDRESS": "127.0.0.1:1", "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "demo.py"), "--storage", str(runs)],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("RAY_ADDRESS=127.0.0.1:1: no Ray cluster answers there (")
    assert last.endswith("unset RAY_ADDRESS to run on this machine alone")
    assert "Traceback" not in done.stderr
    assert not runs.exists()


def test_every_state_of_a_step_has_a_colour():
    # A run of which no driver is left tells one state more (mae_dist/report/run_steps.py).
    assert set(COLOURS) == {*get_args(State), "interrupted"}


@pytest.mark.parametrize("state", ["retrying", "cancelled"])
def test_a_step_that_ended_before_its_time_is_told_with_the_reason(state, capsys):
    step = Step(name="probe", run=lambda *_: {}, config=None, identity=1, output="probe")
    with StepDisplay(Console(force_terminal=False)) as display:
        display.show([StepStatus(step, state=state, reason="why", seconds=3)])
    assert capsys.readouterr().out.split() == ["probe", state, "after", "3", "s", "why"]


def test_plain_output_says_each_change_once_and_takes_brackets_as_they_are(capsys):
    step = Step(name="probe", run=lambda *_: {}, config=None, identity=1, output="probe")
    status = StepStatus(
        step, state="failed", reason="ValueError: [bold] and [/closing] of [rank 0]", seconds=3
    )
    display = StepDisplay(Console(force_terminal=False))
    with display:
        display.show([status])
        display.show([status])
    assert capsys.readouterr().out.splitlines() == [
        f"{'probe':<28} failed after 3 s  ValueError: [bold] and [/closing] of [rank 0]"
    ]
