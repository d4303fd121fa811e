"""Steps that go wrong in every way on a cluster of three nodes: the others finish, nothing is kept back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.job_cluster import BAD, CHAIN_STEPS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("MAE_DIST_DRIVER_KILLS", "3"))
GOOD = [f"fine-{number}" for number in range(4)]


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, Any]:
    """What happened."""
    folder = tmp_path_factory.mktemp("jobs")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(folder), "PYTHONPATH": str(ROOT)}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    # In a process of its own, because this one belongs to the session's Ray.
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.job_cluster", str(folder), str(KILLS)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "told.json").read_text())


def test_of_eight_steps_the_four_that_can_finish_do(told):
    first = told["fan-out"]["first"]
    assert first["states"] == dict.fromkeys(GOOD, "done") | dict.fromkeys(BAD, "failed")


def test_each_of_the_others_says_why(told):
    reasons = told["fan-out"]["first"]["reasons"]
    assert reasons["raises"] == "RuntimeError: the sun went out"
    assert reasons["memory"].startswith("MemoryError")
    assert reasons["hangs"] == "took longer than 5 s, its timeout; log.txt says where it stood"
    assert reasons["killed"].startswith("its process died: Worker unexpectedly exits")
    assert "causes" not in reasons["killed"]


def test_a_step_that_hangs_leaves_its_stacks_in_its_log(told):
    assert " in hangs\n" in told["fan-out"]["log of hangs"]


def test_each_failure_is_tried_three_times_and_what_ended_well_once(told):
    first = told["fan-out"]["first"]
    assert {name: first["executions"][name] for name in GOOD} == dict.fromkeys(GOOD, 1)
    assert first["attempts"] == dict.fromkeys(GOOD, 1) | dict.fromkeys(BAD, 3)


def test_what_the_steps_held_is_given_back_however_they_ended(told):
    """CPUs of actors, and placement groups that Ray would keep for the rest of the job."""
    assert told["fan-out"]["given back"]


def test_a_second_job_starts_the_four_that_failed_and_no_other(told):
    second = told["fan-out"]["second"]
    assert {name: second["states"][name] for name in GOOD} == dict.fromkeys(GOOD, "kept")
    assert {name: second["executions"][name] for name in GOOD} == dict.fromkeys(GOOD, 1)
    assert second["attempts"] == dict.fromkeys(GOOD, 1) | dict.fromkeys(BAD, 4)


def test_two_steps_that_each_want_more_than_half_run_one_after_the_other_by_priority(told):
    times = told["gangs"]["times"]
    assert set(told["gangs"]["states"].values()) == {"done"}
    assert times["sooner"]["ended"] <= times["later"]["began"]
    assert times["later"]["ended"] <= times["spare"]["began"]


def test_a_driver_that_is_killed_at_any_moment_makes_no_finished_step_run_again(told):
    kills = told["kills"]
    assert kills["last status"] == 0
    assert kills["again"] == []
    assert len(kills["done"]) == CHAIN_STEPS
    assert kills["state"]["ended"]
    assert {its["state"] for its in kills["state"]["steps"]} <= {"done", "kept"}
    assert kills["state"]["driver"] == KILLS + 1
