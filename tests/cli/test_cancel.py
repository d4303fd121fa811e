"""`mae-dist cancel RUN [STEP]`."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from mae_dist import storage
from mae_dist.cli import cancel
from mae_dist.cli.main import main
from tests.cli.followed_run import FollowedRun, a_run_under_way, entry


@pytest.fixture
def driver_acts(monkeypatch):
    """What happens while the command waits is set by the test; time passes only then."""
    clock = SimpleNamespace(now=0.0, act=lambda: None)

    def sleep(seconds: float) -> None:
        clock.now += seconds
        clock.act()

    monkeypatch.setattr(cancel, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    return clock


@pytest.mark.parametrize("step", ["pretrain", None])
def test_a_request_says_who_wants_what_to_end_and_is_over_when_the_driver_has_taken_it(
    root, capsys, driver_acts, step
):
    run = a_run_under_way(storage.join(root, "demo-0123"))
    taken = []

    def act() -> None:
        [name] = storage.list_dir(storage.join(run.uri, "requests"))
        request = storage.join(run.uri, "requests", name)
        taken.append((name, storage.read_json(request)))
        storage.delete(request)

    driver_acts.act = act
    assert main(["cancel", run.uri, *([step] if step else [])]) == 0
    [(name, request)] = taken
    assert name.startswith("cancel-")
    assert name.endswith(".json")
    assert (request["step"], request["driver"]) == (step, 1)
    assert request["by"].endswith(f"@{socket.gethostname()}")
    said = f"the driver ends {step or 'the run'}; how far that is: mae-dist status {run.uri}\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("life", "why"),
    [("gone", "driver 1 is gone without a word (process"), ("ended", "driver 1 has ended; the same command")],
)
def test_without_a_driver_nothing_is_asked_for_and_that_is_said(tmp_path, capsys, life, why):
    run = a_run_under_way(str(tmp_path))
    run.write_driver(life)
    assert main(["cancel", run.uri, "pretrain"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"{run.uri}: nothing to cancel, because no driver works on it: {why}")
    assert not (tmp_path / "requests").exists()


def test_a_step_that_has_ended_cannot_be_cancelled(tmp_path, capsys):
    run = a_run_under_way(str(tmp_path))
    assert main(["cancel", run.uri, "finetune-random"]) == 1
    assert capsys.readouterr().err == "finetune-random is failed already; nothing to cancel\n"


def test_a_run_whose_steps_have_all_ended_cannot_be_cancelled(tmp_path, capsys):
    run = FollowedRun(str(tmp_path))
    run.write_config()
    run.write_steps(entry("pretrain", "done"), entry("report", "kept"))
    run.write_driver()
    assert main(["cancel", run.uri]) == 1
    assert capsys.readouterr().err == f"{run.uri}: every step has ended already; nothing to cancel\n"


def test_an_unknown_step_is_answered_with_those_that_there_are(tmp_path, capsys):
    run = a_run_under_way(str(tmp_path))
    assert main(["cancel", run.uri, "finetune-pretraind"]) == 2
    assert capsys.readouterr().err == (
        f"{run.uri}: has no step 'finetune-pretraind'; did you mean 'finetune-pretrained'? Its steps: "
        "catalog, pretrain, finetune-random, finetune-pretrained\n"
    )


def test_a_driver_that_does_not_answer_in_time_keeps_the_request(tmp_path, capsys, driver_acts):
    run = a_run_under_way(str(tmp_path))
    assert main(["cancel", run.uri]) == 1
    [request] = (tmp_path / "requests").iterdir()
    error = capsys.readouterr().err
    assert error.startswith(
        f"driver 1 lives and has not taken the request within 15 s; it stays in {request}\n"
    )
    assert f"whether it is taken   mae-dist status {run.uri}\n" in error


def test_a_request_to_a_driver_that_ends_meanwhile_is_withdrawn(tmp_path, capsys, driver_acts):
    run = a_run_under_way(str(tmp_path))
    driver_acts.act = lambda: run.write_driver("ended")
    assert main(["cancel", run.uri]) == 1
    assert capsys.readouterr().err == "driver 1 has ended before it took the request; withdrawn\n"
    assert list((tmp_path / "requests").iterdir()) == []
