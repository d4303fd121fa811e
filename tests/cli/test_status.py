"""`mae-dist status RUN` and `mae-dist watch RUN`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from mae_dist import storage
from mae_dist.cli import status, watch
from mae_dist.cli.main import main
from mae_dist.cli.status_page import status_page
from mae_dist.orchestrate import pulse
from mae_dist.orchestrate.pulse import Driver
from mae_dist.report.run_steps import StepReader
from tests.cli.followed_run import NOBODY, FollowedRun, a_run_under_way, entry


def lines_of(printed: str) -> dict[str, str]:
    """Lines by their first word."""
    return {line.split()[0]: " ".join(line.split()) for line in printed.splitlines() if line.strip()}


@pytest.fixture
def time_passes(monkeypatch):
    """Time passes in the sleeps of the commands alone; `happens` is done in each of them."""
    clock = SimpleNamespace(now=0.0, happens=lambda: None)

    def sleep(seconds: float) -> None:
        clock.now += seconds
        clock.happens()

    fake = SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep)
    for module in (status, watch, pulse):
        monkeypatch.setattr(module, "time", fake)
    return clock


def test_the_table_shows_each_step_with_state_attempt_progress_and_where_its_log_is(root, capsys):
    run = a_run_under_way(storage.join(root, "demo-0123"))
    assert main(["status", run.uri]) == 0
    lines = lines_of(capsys.readouterr().out)
    assert lines["demo"] == f"demo {run.uri}"
    assert lines["4"] == "4 steps: 1 done, 1 running, 1 failed, 1 waiting"
    assert lines["driver"].startswith(f"driver 1 works on it: process {os.getpid()} on ")
    assert lines["catalog"] == "catalog done 1 2 s 512 samples logs/catalog.log"
    assert (
        lines["pretrain"] == "pretrain running 2 1 min 1 s 120/280 1 min 35 s loss 0.4123 logs/pretrain.log"
    )
    assert lines["finetune-pretrained"] == "finetune-pretrained waiting 1"
    assert lines["finetune-random"] == "finetune-random failed: MemoryError: [cuda] out of memory"
    assert lines["why:"] == f"why: mae-dist logs {run.uri} finetune-random"
    assert lines["log:"] == f"log: mae-dist logs {run.uri} pretrain --follow"


def test_a_finished_evaluation_shows_its_number_with_its_error(tmp_path, capsys):
    run = FollowedRun(str(tmp_path))
    run.write_config("finetune")
    run.write_steps(entry("finetune-pretrained", "kept"))
    summary = {"metric": "top1", "value": 71.46, "standard_error": 1.52}
    run.write(
        "evaluations/finetune-pretrained/DONE.json", {"state": "done", "seconds": 90.0, "summary": summary}
    )
    run.write_driver("ended")
    assert main(["status", run.uri]) == 0
    lines = lines_of(capsys.readouterr().out)
    assert lines["finetune-pretrained"] == "finetune-pretrained kept 1 1 min 30 s Top-1 71.5 ± 1.5 %"
    assert lines["driver"] == "driver 1 has ended; nothing is left to do"
    assert lines["report:"] == f"report: {run.uri}/report/index.html"


def test_what_a_killed_driver_left_is_interrupted_and_the_command_that_goes_on_is_told(tmp_path, capsys):
    run = a_run_under_way(str(tmp_path))
    run.write_driver("gone", number=2)
    assert main(["status", run.uri]) == 0
    lines = lines_of(capsys.readouterr().out)
    assert lines["pretrain"].startswith("pretrain interrupted 2 ")
    assert lines["driver"].startswith(f"driver 2 is gone without a word (process {NOBODY} on ")
    assert lines["driver"].endswith("the same command does what is missing: mae-dist run pretrain/demo")


def test_a_driver_on_another_host_lives_as_soon_as_its_beat_moves(tmp_path, capsys, time_passes):
    run = a_run_under_way(str(tmp_path))
    run.write_driver("elsewhere")
    time_passes.happens = lambda: run.write_driver("elsewhere", beat=int(time_passes.now) // 3)
    assert main(["status", run.uri]) == 0
    assert "driver 1 works on it: process" in capsys.readouterr().out
    assert time_passes.now == 3


def test_a_driver_on_another_host_is_gone_when_its_beat_stands_still(tmp_path, capsys, time_passes):
    run = a_run_under_way(str(tmp_path))
    run.write_driver("elsewhere")
    assert main(["status", run.uri]) == 0
    lines = lines_of(capsys.readouterr().out)
    assert lines["driver"].startswith("driver 1 is gone without a word (process")
    assert lines["pretrain"].startswith("pretrain interrupted")
    assert time_passes.now == pulse.SILENT_BEATS * pulse.BEAT_SECONDS + 1


def test_a_run_without_steps_json_is_told_from_the_files_its_steps_left(tmp_path, capsys):
    run = FollowedRun(str(tmp_path))
    run.write_config("finetune")
    run.write("catalog/train/DONE.json", {"state": "done", "seconds": 2.0, "summary": {}})
    run.write("progress.json", {"step": 7, "total_steps": 20, "loss": 0.5})
    run.write("evaluations/finetune-random/FAILED.json", {"state": "failed", "reason": "no space left"})
    assert main(["status", run.uri]) == 0
    printed = capsys.readouterr().out
    lines = lines_of(printed)
    assert "no driver is known of this run" in printed
    assert "told from the files that steps leave; there is no steps.json" in printed
    assert lines["catalog"] == "catalog done 1 2 s"
    assert lines["pretrain"] == "pretrain running 1 7/20 loss 0.5"
    assert lines["finetune-random"] == "finetune-random failed: no space left"
    assert [lines[name].split()[1] for name in ("test_catalog", "reconstruction", "report")] == [
        "waiting"
    ] * 3


def test_status_as_json_has_the_driver_and_every_step(tmp_path, capsys):
    run = a_run_under_way(str(tmp_path))
    assert main(["status", run.uri, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["uri"], found["driver"]["life"], found["driver"]["number"]) == (run.uri, "alive", 1)
    assert [step["state"] for step in found["steps"]] == ["done", "running", "failed", "waiting"]
    assert found["steps"][1]["progress"]["eta_seconds"] == 95.0


@pytest.mark.parametrize("command", [["status"], ["watch"], ["cancel"], ["report"], ["compare"]])
def test_a_place_that_is_no_run_is_named_with_status_2(tmp_path, capsys, command):
    assert main([*command, str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(
        f"{tmp_path}: not a run directory, config.yaml is missing; name the folder"
    )


def test_steps_of_a_later_version_are_refused_with_both_numbers(tmp_path, capsys):
    run = a_run_under_way(str(tmp_path))
    run.write_steps(schema=2)
    assert main(["status", run.uri]) == 2
    assert capsys.readouterr().err == (
        f"{run.uri}/steps.json: has schema 2, this version of mae_dist reads 1; use the version that drives "
        "the run\n"
    )


def test_following_a_run_loads_neither_torch_nor_ray(tmp_path):
    run = a_run_under_way(str(tmp_path))
    modules = ", ".join(f"mae_dist.cli.{name}" for name in ("status", "watch", "logs", "cancel"))
    code = (
        f"import sys, {modules}; from mae_dist.cli.main import main; main(['status', {run.uri!r}]); "
        "print(*{'torch', 'ray', 'pyarrow', 'matplotlib', 's3fs'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == "\n"


def test_watching_without_a_terminal_tells_each_change_once_until_the_driver_has_ended(
    tmp_path, capsys, time_passes
):
    run = a_run_under_way(str(tmp_path))

    def happens() -> None:
        if time_passes.now >= 4:
            run.write_steps(entry("catalog", "done", seconds=1.5), entry("pretrain", "done", seconds=70.0))
            run.write_driver("ended")

    time_passes.happens = happens
    assert main(["watch", run.uri]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "catalog done after 1.5 s 512 samples",
        "pretrain running try 2 120/280 loss 0.4123",
        "finetune-random failed after 4 s try 3 MemoryError: [cuda] out of memory",
        "finetune-pretrained waiting",
        lines[4],
        "pretrain done after 1 min 10 s",
        "driver 1 has ended; nothing is left to do",
    ]
    assert lines[4].startswith("driver 1 works on it")


def test_watching_ends_with_status_1_where_a_step_is_not_done(tmp_path, capsys, time_passes):
    run = a_run_under_way(str(tmp_path))
    time_passes.happens = lambda: run.write_driver("ended")
    assert main(["watch", run.uri]) == 1
    assert "pretrain" in capsys.readouterr().out


def test_watching_on_a_terminal_draws_the_table_in_its_place(tmp_path, monkeypatch, time_passes):
    run = a_run_under_way(str(tmp_path))
    time_passes.happens = lambda: run.write_driver("ended")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160, height=40, color_system=None)
    monkeypatch.setattr(watch, "terminal", lambda: console)
    assert main(["watch", run.uri]) == 1
    drawn = screen.getvalue()
    assert "━" in drawn
    assert drawn.count("120/280") >= 2
    assert drawn.index("running") < drawn.index("interrupted")


def test_whoever_stops_watching_stops_nothing(tmp_path, capsys, time_passes):
    run = a_run_under_way(str(tmp_path))

    def happens() -> None:
        raise KeyboardInterrupt

    time_passes.happens = happens
    before = storage.list_dir(run.uri)
    assert main(["watch", run.uri]) == 0
    assert storage.list_dir(run.uri) == before
    assert "pretrain" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("width", "left_out"), [(160, []), (100, ["log"]), (60, ["log", "━", "time", "try"])]
)
def test_a_narrow_terminal_loses_columns_before_words_are_broken(tmp_path, width, left_out):
    run = a_run_under_way(str(tmp_path))
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    console.print(status_page(StepReader(run.uri).read(), Driver(life="alive"), console))
    table = console.file.getvalue().split("\n\n")[1].splitlines()
    expected = ["log", "━", "time", "try", "step", "state", "progress", "ETA", "result"]
    words = " ".join(table[:5]).split()
    assert [word for word in expected if not any(its.startswith(word) for its in words)] == left_out
    assert "running" in words


def test_a_run_that_has_no_steps_yet_is_told_without_a_table(tmp_path, capsys):
    run = FollowedRun(str(tmp_path))
    run.write_config()
    run.write_steps()
    run.write_driver()
    assert main(["status", run.uri]) == 0
    assert "0 steps: " in capsys.readouterr().out


def test_what_an_earlier_driver_was_doing_is_interrupted_until_the_present_one_says_otherwise(
    tmp_path, capsys
):
    run = a_run_under_way(str(tmp_path))
    run.write_driver("alive", number=2)
    assert main(["status", run.uri]) == 0
    lines = lines_of(capsys.readouterr().out)
    assert lines["driver"].startswith("driver 2 works on it")
    assert lines["pretrain"].startswith("pretrain interrupted")
