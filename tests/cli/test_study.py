"""`mae-dist study` and its job, with a run in the place of each real one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mae_dist.cli import run as run_command
from mae_dist.cli.main import main
from mae_dist.config.load import to_dict
from mae_dist.config.schema import RunConfig
from mae_dist.config.tree import study_names
from mae_dist.orchestrate.experiment import run_uri
from mae_dist.orchestrate.preflight import check_inputs

ROOT = Path(__file__).parents[2]
STUDY = ["study", "mae/decoder_depth", "--storage", "runs", "--value", "1", "--value", "8"]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Runs that are done in no time, as (decoder depth, evaluations); `runs.status` says how they end."""
    monkeypatch.chdir(tmp_path)
    done = Runs()
    monkeypatch.setattr(run_command, "run_config", done.run_config)
    return done


class Runs(list):
    """What was asked to run, in order."""

    status: dict[int, int]

    def __init__(self) -> None:
        super().__init__()
        self.status = {}

    def run_config(self, config: RunConfig, *, dry_run: bool = False) -> int:
        depth = config.model.architecture.decoder.depth
        self.append((depth, list(config.evaluations)))
        status = self.status.get(depth, 0)
        folder = Path(run_uri(config, check_inputs(config).digests))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(config)))
        for name in config.evaluations if status == 0 else ():
            where = folder / "evaluations" / f"{name}-pretrained"
            where.mkdir(parents=True, exist_ok=True)
            result = {"evaluation": name, "protocol": name, "start_from": "pretrained", "metric": "top1"}
            (where / "result.json").write_text(json.dumps(result | {"value": 10.0 + depth, "num_samples": 9}))
            (where / "DONE.json").write_text(json.dumps({"state": "done", "reason": None, "seconds": 1.0}))
        return status


def ours(column: str = "finetune") -> dict[str, float | None]:
    table = json.loads(Path("runs/study-mae-decoder_depth-mini/table.json").read_text())
    return {row["label"]: row["cells"][column]["value"] for row in table["rows"]}


def test_every_run_is_done_once_and_the_table_holds_its_numbers(runs, capsys):
    assert main(STUDY) == 0
    assert runs == [(1, ["finetune", "linear_probe"]), (8, ["finetune", "linear_probe"])]
    assert ours() == {"1": 11.0, "2": None, "4": None, "8": 18.0, "12": None}
    printed = capsys.readouterr().out
    assert "run 2 of 2: 8" in printed
    assert "Mini scale, not the paper's" in printed


def test_a_run_that_fails_keeps_no_other_from_running(runs):
    runs.status = {1: 1}
    assert main(STUDY) == 1
    assert [depth for depth, _ in runs] == [1, 8]
    assert ours()["8"] == 18.0


def test_a_run_that_another_driver_does_is_passed_over(runs):
    runs.status = {1: 3}
    assert main(STUDY) == 3
    assert [depth for depth, _ in runs] == [1, 8]


def test_what_cannot_work_as_asked_ends_the_study(runs):
    runs.status = {1: 2}
    assert main(STUDY) == 2
    assert [depth for depth, _ in runs] == [1]


def test_numbers_of_an_earlier_job_stay_in_the_table(runs):
    assert main([*STUDY[:4], "--value", "1"]) == 0
    assert main([*STUDY[:4], "--value", "8"]) == 0
    assert (ours()["1"], ours()["8"]) == (11.0, 18.0)


def test_a_dry_run_starts_and_writes_nothing(runs, tmp_path, capsys):
    assert main([*STUDY, "--dry-run"]) == 0
    assert runs == []
    assert list(tmp_path.iterdir()) == []
    assert "2 runs, one after the other; in all" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["study"], ["study", "--list"]])
def test_the_studies_are_listed(arguments, capsys):
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == study_names()
    [line] = [line for line in lines if line.startswith("mae/decoder_depth ")]
    assert line.endswith("Decoder depth: 5 values; arXiv 2111.06377, table 1a")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("in1k=train", "a data set is NAME=TRAIN,TEST (from --data in1k=train)"),
        ("in2k=a,b", "no data set 'in2k'; did you mean 'in1k'? (from --data in2k=a,b)"),
    ],
)
def test_where_a_data_set_lies_is_checked(runs, capsys, given, said):
    assert main([*STUDY, "--data", given]) == 2
    assert said in capsys.readouterr().err


def test_samples_that_are_not_there_are_told(runs, capsys, tmp_path):
    assert main([*STUDY, "--scale", "full", "--data", "in1k=nowhere,nowhere"]) == 2
    assert f"data.catalog: {tmp_path}/nowhere: no such file or folder" in capsys.readouterr().err


def test_the_job_is_the_command(tmp_path):
    job = [sys.executable, str(ROOT / "jobs" / "study.py"), "mae/decoder_dept"]
    done = subprocess.run(job, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 2
    assert "did you mean 'mae/decoder_depth'?" in done.stderr
    assert "Traceback" not in done.stderr
