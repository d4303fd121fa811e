"""`mae-dist run` and the job scripts, as far as they go without a cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mae_dist.cli import run
from mae_dist.cli.main import main
from mae_dist.config.tree import recipe_names
from mae_dist.orchestrate import cluster

ROOT = Path(__file__).parents[2]
# The job of studies takes the name of a study in place of a recipe; see test_study.py.
JOBS = sorted(path for path in (ROOT / "jobs").glob("*.py") if path.stem != "study")


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch, tmp_path):
    # A test file before this one may have started the session's cluster in this process.
    monkeypatch.setattr(cluster, "is_cluster_running", lambda: False)
    monkeypatch.chdir(tmp_path)


def test_a_dry_run_prints_the_steps_and_writes_nothing(tmp_path, capsys):
    assert main(["run", "pretrain/demo", "--storage", "runs", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"run directory  {tmp_path}/runs/demo-")
    steps = [line.split()[0] for line in lines[2:]]
    assert steps[:2] == ["catalog", "pretrain"]
    assert {"reconstruction", "linear_probe-random", "finetune-pretrained"} < set(steps)
    assert steps[-2] == "report"
    assert lines[-1].startswith("in all ")
    assert list(tmp_path.iterdir()) == []


def test_a_job_is_its_recipe_run(capsys):
    assert main(["run", "pretrain/demo", "--set", "seed=4", "--dry-run"]) == 0
    from_command = capsys.readouterr().out
    assert run.main("pretrain/demo", ["--set", "seed=4", "--dry-run"]) == 0
    assert capsys.readouterr().out == from_command


def test_everything_wrong_with_the_inputs_is_told_at_once(tmp_path, capsys):
    asked = ["--set", "data.catalog=train.csv", "--set", "data.test_catalog=val.csv"]
    assert main(["run", "pretrain/k400", *asked, "--storage", "s3://user:word@bucket/runs"]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[0] == "videomae_base_k400: 3 problem(s)"
    assert "storage: s3://...: credentials do not belong in a URI" in error
    assert f"data.catalog: {tmp_path}/train.csv: no such file" in error
    assert f"data.test_catalog: {tmp_path}/val.csv: no such file" in error
    assert "word" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_parquet_file_without_images_is_named(tmp_path, capsys):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"number": [1]}), tmp_path / "numbers.parquet")
    asked = ["--set", "data.catalog=numbers.parquet", "--set", "evaluations={}"]
    assert main(["run", "pretrain/in1k", *asked, "--dry-run"]) == 2
    assert f"data.catalog: {tmp_path}/numbers.parquet" in capsys.readouterr().err


def test_the_sources_of_a_mix_are_looked_for_where_the_command_is_given(tmp_path, capsys):
    mix = "data.mix={a: {catalog: a.csv, weight: 1}, b: {catalog: b.csv, weight: 1}}"
    asked = ["--set", mix, "--set", "evaluations={}"]
    assert main(["run", "pretrain/in1k", *asked, "--dry-run"]) == 2
    assert f"data.mix.a.catalog: {tmp_path}/a.csv: no such file" in capsys.readouterr().err


def test_shards_may_be_named_by_a_pattern(tmp_path, capsys):
    import pyarrow as pa
    import pyarrow.parquet as pq

    shard = pa.table({"image": [b"one", b"two"], "label": [0, 1]})
    pq.write_table(shard, tmp_path / "train-0.parquet")
    pq.write_table(pa.table({"number": [1]}), tmp_path / "other.parquet")
    asked = ["--set", "data.catalog=train-*.parquet", "--set", "evaluations={}"]
    one_cpu = ["--set", "resources.device=cpu", "--set", "resources.workers=1"]
    assert main(["run", "pretrain/in1k", *asked, *one_cpu, "--dry-run"]) == 0
    assert main(["run", "pretrain/in1k", "--set", "data.catalog=tests-*.parquet", "--dry-run"]) == 2
    assert "tests-*.parquet: nothing matches it" in capsys.readouterr().err


def test_more_gpus_than_there_can_be_are_refused(tmp_path, capsys):
    asked = ["--set", "data.catalog=drawn://moving_clips?samples=8", "--set", "evaluations={}"]
    split = ["--set", "resources.workers=1024", "--set", "train.micro_batch=1"]
    assert main(["run", "pretrain/k400", *asked, *split, "--dry-run"]) == 2
    assert "1024 workers need as many GPUs" in capsys.readouterr().err


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.stem)
def test_a_job_answers_a_mistake_on_one_screen_with_status_2(job, tmp_path):
    done = subprocess.run(
        [sys.executable, str(job), "--set", "sed=3"],
        # As Ray starts a job's driver: the working directory is on PYTHONPATH.
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "sed: no such field; did you mean 'seed'? (from --set sed=3)" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.stem)
def test_a_job_is_short_and_its_recipe_is_packaged(job):
    text = job.read_text()
    [recipe] = re.findall(r'main\("([a-z0-9_/]+)"', text)
    assert recipe in recipe_names()
    assert len(text.splitlines()) <= 40


def test_weights_are_evaluated_by_a_job_that_asks_for_them(tmp_path, capsys):
    data = ["--set", "data.catalog=images", "--set", "data.test_catalog=images"]
    assert run.main("pretrain/in1k", data, needs=("weights",)) == 2
    assert capsys.readouterr().err.splitlines() == [
        "pretrain/in1k: 1 problem(s)",
        "  weights: required here; give --set weights=URI",
    ]
    assert run.main("pretrain/in1k", [*data, "--set", "weights=nowhere"], needs=("weights",)) == 2
    error = capsys.readouterr().err
    assert f"weights: {tmp_path}/nowhere/export/model.safetensors: no such file" in error


def test_other_test_sets_are_looked_for_where_the_command_is_given(tmp_path, capsys):
    asked = ["--set", "data.catalog=images", "--set", "evaluations.finetune.robustness.a.catalog=imagenet-a"]
    assert main(["run", "pretrain/in1k", *asked, "--dry-run"]) == 2
    path = "evaluations.finetune.robustness.a.catalog"
    assert f"{path}: {tmp_path}/imagenet-a: no such file or folder" in capsys.readouterr().err
