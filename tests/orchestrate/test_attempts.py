"""What follows when an attempt fails, hangs, is cancelled or has to make room; without a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mae_dist import storage
from mae_dist.orchestrate.step import Patience
from tests.orchestrate.stand_in import DONE, HANG, LOST, WRONG, StandIn, run, step, unlucky


@pytest.fixture
def launcher() -> StandIn:
    return StandIn()


def states(ended) -> dict[str, str]:
    return {name: status.state for name, status in ended.items()}


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "steps.json").read_text())


def ask(folder: Path, step_name: str | None) -> None:
    storage.write_json(f"{folder}/requests/cancel-1.json", {"step": step_name, "by": "ada@host"})


def test_a_step_that_fails_is_started_again_after_pauses_that_double(tmp_path, launcher):
    ended = run(tmp_path, launcher, step("flaky", unlucky(), unlucky(), DONE))
    assert states(ended) == {"flaky": "done"}
    first, second, third = launcher.times("flaky")
    # Each attempt takes a second; what waits is looked at twice a second.
    assert 11.0 <= second - first <= 11.5
    assert 21.0 <= third - second <= 21.5
    assert not (tmp_path / "steps/flaky/traceback.txt").exists()
    assert not (tmp_path / "steps/flaky/FAILED.json").exists()


@pytest.mark.parametrize("play", [unlucky(), LOST], ids=["raises", "loses its process"])
def test_a_step_that_goes_on_failing_is_given_up_with_its_reason_after_two_retries(tmp_path, launcher, play):
    ended = run(tmp_path, launcher, step("bad", play), step("good"))
    assert states(ended) == {"bad": "failed", "good": "done"}
    assert len(launcher.times("bad")) == 3
    assert ended["bad"].reason == play[1].reason
    assert storage.read_json(f"{tmp_path}/steps/bad/FAILED.json")["reason"] == play[1].reason
    assert [(entry["name"], entry["attempt"], entry["state"]) for entry in told(tmp_path)["history"]] == [
        *[("bad", 1, "failed"), ("good", 1, "done"), ("bad", 2, "failed"), ("bad", 3, "failed")]
    ]


def test_a_mistake_of_the_user_is_not_tried_again(tmp_path, launcher):
    assert states(run(tmp_path, launcher, step("wrong", WRONG))) == {"wrong": "failed"}
    assert len(launcher.times("wrong")) == 1


def test_a_step_without_retries_fails_at_once(tmp_path, launcher):
    assert states(run(tmp_path, launcher, step("bad", unlucky(), DONE, patience=Patience()))) == {
        "bad": "failed"
    }


def test_a_step_that_hangs_says_where_is_ended_at_its_timeout_and_tried_again(tmp_path, launcher):
    patience = Patience(timeout_seconds=60.0, retries=1, backoff_seconds=10.0)
    ended = run(tmp_path, launcher, step("hangs", HANG, patience=patience), step("good"))
    assert states(ended) == {"hangs": "failed", "good": "done"}
    assert ended["hangs"].reason == "took longer than 60 s, its timeout; log.txt says where it stood"
    assert len(launcher.times("hangs")) == 2
    for stacks, killed in zip(
        launcher.times("hangs", "writes its stacks"), launcher.times("hangs", "is killed"), strict=True
    ):
        assert 0 < killed - stacks <= 1.0


def test_what_needs_a_step_waits_while_that_is_tried_again(tmp_path, launcher):
    flaky = step("flaky", unlucky(), DONE)
    ended = run(tmp_path, launcher, flaky, step("next", needs=(flaky,)))
    assert states(ended) == {"flaky": "done", "next": "done"}


def test_other_steps_use_the_room_while_one_waits_to_be_tried_again(tmp_path, launcher):
    flaky = step("flaky", unlucky(), DONE, cpus=4, priority=20)
    run(tmp_path, launcher, flaky, step("other", (30.0, {}), cpus=4))
    [started] = launcher.times("other")
    assert started <= 2.0
    assert launcher.times("flaky")[1] >= 31.0


def test_of_steps_that_do_not_fit_together_the_more_important_ones_run_first(tmp_path, launcher):
    steps = [step("probe", cpus=3, priority=0), step("b", cpus=3), step("a", cpus=3, priority=20)]
    run(tmp_path, launcher, *steps)
    assert [name for _, name, what in launcher.log if what == "starts"] == ["a", "b", "probe"]


def test_a_spare_step_makes_room_and_begins_again_without_having_failed(tmp_path, launcher):
    first = step("first")
    main = step("main", (20.0, {}), cpus=4, needs=(first,))
    ended = run(tmp_path, launcher, first, main, step("probe", (50.0, {}), cpus=3, priority=0))
    assert states(ended) == {"first": "done", "main": "done", "probe": "done"}
    assert len(launcher.times("probe")) == 2
    assert launcher.times("probe")[1] >= launcher.times("main")[0] + 20.0
    assert ended["probe"].attempt == 1
    made_room = told(tmp_path)["history"][1]
    assert (made_room["name"], made_room["state"]) == ("probe", "cancelled")
    assert made_room["reason"] == "made room for a more important step"


def test_a_spare_step_makes_room_for_a_training_that_waits_for_its_data(tmp_path, launcher):
    def show(statuses):
        waits = 0.5 if 20 < launcher.now < 40 else 0.1 if launcher.now < 60 else 0.01
        storage.write_json(f"{tmp_path}/steps/main/progress.json", {"step": 1, "data_wait_share": waits})

    main = step("main", (100.0, {}), priority=20, saves=True)
    probe = step("probe", (30.0, {}), priority=0)
    storage.write_json(f"{tmp_path}/steps/main/progress.json", {"data_wait_share": 0.01})
    ended = run(tmp_path, launcher, main, probe, show=show)
    assert states(ended) == {"main": "done", "probe": "done"}
    reasons = [entry["reason"] for entry in told(tmp_path)["history"] if entry["name"] == "probe"]
    assert reasons == ["made room for a training that waits for its data", None]
    [killed] = launcher.times("probe", "is killed")
    assert 20 < killed < 25
    # Some waiting is no reason to end it, and too much of it to begin.
    assert launcher.times("probe")[1] >= 60


def test_an_elastic_step_gives_back_what_another_one_needs_and_grows_again(tmp_path, launcher):
    elastic = step("elastic", (60.0, {}), cpus=1, most_cpus=9, saves=True)
    first = step("first", (10.0, {}), cpus=1)
    other = step("other", (20.0, {}), cpus=2, needs=(first,))
    run(tmp_path, launcher, elastic, first, other)
    told_it = [(at, what) for at, name, what in launcher.log if name == f"{tmp_path}/steps/elastic"]
    assert [what for _, what in told_it] == [f"may grow by {most}" for most in (2, 1, None)]
    [started], ends = launcher.times("other"), told_it[2][0]
    assert told_it[1][0] == started
    assert ends >= started + 20


def test_a_step_that_is_cancelled_is_ended_and_the_others_go_on(tmp_path, launcher):
    def show(statuses):
        if launcher.now == 0.0:
            ask(tmp_path, "hangs")

    hangs = step("hangs", HANG)
    ended = run(tmp_path, launcher, hangs, step("next", needs=(hangs,)), step("good", (10.0, {})), show=show)
    assert states(ended) == {"hangs": "cancelled", "next": "skipped", "good": "done"}
    assert ended["hangs"].reason == "cancelled by ada@host"
    assert ended["next"].reason == "needs hangs"
    assert len(launcher.times("hangs")) == 1
    assert storage.list_dir(f"{tmp_path}/requests") == []
    assert storage.read_json(f"{tmp_path}/steps/hangs/FAILED.json")["reason"] == "cancelled by ada@host"


def test_a_training_that_is_cancelled_is_asked_to_save_before_it_is_ended(tmp_path, launcher):
    def show(statuses):
        if launcher.now == 0.0:
            ask(tmp_path, "train")

    ended = run(tmp_path, launcher, step("train", HANG, saves=True), show=show)
    assert states(ended) == {"train": "cancelled"}
    [asked] = launcher.times(f"{tmp_path}/steps/train", "is asked to stop")
    [killed] = launcher.times("train", "is killed")
    assert 120 <= killed - asked <= 121


def test_a_whole_run_is_cancelled(tmp_path, launcher):
    def show(statuses):
        if launcher.now == 0.0:
            ask(tmp_path, None)

    running = step("running", HANG)
    waiting = step("waiting", after=(running,))
    retried = step("retried", unlucky(), patience=Patience(retries=2, backoff_seconds=100.0))
    ended = run(tmp_path, launcher, running, waiting, retried, show=show)
    assert states(ended) == {"running": "cancelled", "waiting": "cancelled", "retried": "failed"}
    assert launcher.times("all", "is asked to stop")
    assert told(tmp_path)["ended"]


def test_a_request_for_a_step_that_is_not_there_is_answered_in_the_log(tmp_path, launcher, caplog):
    ask(tmp_path, "nothing")
    assert states(run(tmp_path, launcher, step("good"))) == {"good": "done"}
    assert "there is no step nothing; there are good" in caplog.messages


def test_the_driver_ends_what_runs_and_says_so_when_it_is_interrupted(tmp_path, launcher):
    def show(statuses):
        if launcher.now > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, launcher, step("runs", HANG), show=show)
    assert launcher.times("runs", "is killed")
    state = told(tmp_path)
    assert state["ended"]
    assert [(its["state"], its["reason"]) for its in state["steps"]] == [
        ("cancelled", "the driver ended: KeyboardInterrupt")
    ]


def test_the_state_file_says_what_runs_and_since_when(tmp_path, launcher):
    seen: list[dict[str, Any]] = []

    def show(statuses):
        seen.append(told(tmp_path))

    first = step("first")
    run(tmp_path, launcher, first, step("second", needs=(first,)), show=show)
    assert [its["state"] for its in seen[0]["steps"]] == ["running", "waiting"]
    assert not seen[0]["ended"]
    running = seen[0]["steps"][0]
    assert running["started"] <= seen[0]["written"]
    expected = {"attempt": 1, "priority": 10, "needs": [], "cpus": 1.0, "gpus": 0.0, "ended": None}
    assert {name: running[name] for name in expected} == expected
    assert (running["output"], running["log"]) == ("steps/first", "steps/first/log.txt")
    assert seen[0]["steps"][1]["log"] is None
    assert seen[-1]["ended"]
    assert [its["state"] for its in seen[-1]["steps"]] == ["done", "done"]


def test_a_second_job_keeps_what_is_done_and_remembers_when_and_what_came_before(tmp_path, launcher):
    steps = [step("good"), step("bad", WRONG)]
    run(tmp_path, launcher, *steps)
    before = told(tmp_path)
    ended = run(tmp_path, launcher, *steps)
    after = told(tmp_path)
    assert states(ended) == {"good": "kept", "bad": "failed"}
    assert after["steps"][0] == before["steps"][0] | {"state": "kept"}
    assert [entry["name"] for entry in after["history"]] == ["good", "bad", "bad"]


def test_every_attempt_has_its_part_of_the_log(tmp_path, launcher):
    run(tmp_path, launcher, step("flaky", unlucky(), DONE))
    lines = (tmp_path / "steps/flaky/log.txt").read_text().splitlines()
    assert [line.partition(" UTC ")[2] for line in lines if "----" in line] == [
        "---- flaky, attempt 1",
        "---- failed: RuntimeError: not today",
        "---- flaky, attempt 2",
    ]
