"""`mae-dist logs RUN STEP`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mae_dist import storage
from mae_dist.cli import logs
from mae_dist.cli.main import main
from tests.cli.followed_run import FollowedRun, a_run_under_way, entry


@pytest.fixture
def meanwhile(monkeypatch):
    """What happens while the command waits, set by the test as a list of functions."""
    happens = []
    monkeypatch.setattr(logs, "time", SimpleNamespace(sleep=lambda seconds: happens.pop(0)()))
    return happens


def test_the_log_of_a_step_is_printed_as_it_lies_there(root, capsys):
    run = a_run_under_way(storage.join(root, "demo-0123"))
    run.write("logs/pretrain.log", "step 1\n[bold] step 2 ⏱\n")
    assert main(["logs", run.uri, "pretrain"]) == 0
    assert capsys.readouterr().out == "step 1\n[bold] step 2 ⏱\n"


def test_a_failed_step_ends_with_its_traceback(tmp_path, capsys):
    run = a_run_under_way(str(tmp_path))
    run.write("evaluations/finetune-random/traceback.txt", "Traceback ...\nMemoryError\n")
    assert main(["logs", run.uri, "finetune-random"]) == 0
    assert capsys.readouterr().out == (
        "\nfinetune-random failed: MemoryError: [cuda] out of memory\nTraceback ...\nMemoryError\n"
    )


def test_following_prints_what_comes_until_the_step_has_ended(tmp_path, capsys, meanwhile):
    run = a_run_under_way(str(tmp_path))
    whole = "step 1\nstep 2 ⏱\nstep 3\n".encode()

    def more(num_bytes: int) -> None:
        run.write("logs/pretrain.log", whole[:num_bytes])

    def end() -> None:
        more(len(whole))
        run.write_steps(entry("pretrain", "done", log="logs/pretrain.log"))

    # In between a character is there in part.
    meanwhile += [lambda: more(7), lambda: more(len("step 1\nstep 2 ") + 1), end]
    assert main(["logs", run.uri, "pretrain", "--follow"]) == 0
    assert capsys.readouterr().out == whole.decode()
    assert meanwhile == []


def test_following_a_step_that_is_tried_again_goes_on_with_its_new_log(tmp_path, capsys, meanwhile):
    run = a_run_under_way(str(tmp_path))
    run.write("logs/pretrain.log", "the first attempt\n")

    def again() -> None:
        run.write("logs/pretrain-2.log", "again\n")
        run.write_steps(entry("pretrain", "done", attempt=2, log="logs/pretrain-2.log"))

    meanwhile += [again]
    assert main(["logs", run.uri, "pretrain", "-f"]) == 0
    assert capsys.readouterr().out == "the first attempt\nagain\n"


def test_following_ends_where_no_driver_is_left_to_go_on(tmp_path, capsys, meanwhile):
    run = a_run_under_way(str(tmp_path))
    run.write("logs/pretrain.log", "step 1\n")
    meanwhile += [lambda: run.write_driver("gone")]
    assert main(["logs", run.uri, "pretrain", "--follow"]) == 0
    assert capsys.readouterr().out == "step 1\n"


def test_whoever_stops_following_stops_nothing(tmp_path, capsys, meanwhile):
    run = a_run_under_way(str(tmp_path))

    def interrupt() -> None:
        raise KeyboardInterrupt

    meanwhile += [interrupt]
    assert main(["logs", run.uri, "pretrain", "--follow"]) == 0
    assert capsys.readouterr().out == ""


def test_a_step_that_has_said_nothing_is_told_with_its_state(tmp_path, capsys):
    run = a_run_under_way(str(tmp_path))
    assert main(["logs", run.uri, "finetune-pretrained"]) == 1
    assert capsys.readouterr().err == "finetune-pretrained is waiting and has said nothing\n"


def test_a_run_of_a_version_without_logs_is_told_so(tmp_path, capsys):
    run = FollowedRun(str(tmp_path))
    run.write_config("finetune")
    assert main(["logs", run.uri, "pretrain"]) == 1
    assert capsys.readouterr().err == (
        "pretrain is waiting; the version of mae_dist that ran it kept no logs\n"
    )


def test_a_step_that_there_is_not_is_answered_with_those_that_there_are(tmp_path, capsys):
    run = a_run_under_way(str(tmp_path))
    assert main(["logs", run.uri, "probe"]) == 2
    assert capsys.readouterr().err == (
        f"{run.uri}: has no step 'probe'. Its steps: "
        "catalog, pretrain, finetune-random, finetune-pretrained\n"
    )


def test_following_goes_on_where_only_the_end_of_a_long_log_is_kept(tmp_path, capsys, meanwhile):
    run = a_run_under_way(str(tmp_path))
    lines = [f"line {number}\n" for number in range(1000)]
    run.write("logs/pretrain.log", "".join(lines[:800]))

    def end() -> None:
        run.write("logs/pretrain.log", "".join(lines[300:]))
        run.write_steps(entry("pretrain", "done", log="logs/pretrain.log"))

    meanwhile += [end]
    assert main(["logs", run.uri, "pretrain", "--follow"]) == 0
    assert capsys.readouterr().out == "".join(lines)
