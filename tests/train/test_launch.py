"""What follows when a training's worker groups end in one way or another; Ray itself is left out."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import WorkerGroupError

from mae_dist import storage
from mae_dist.config.load import load
from mae_dist.train import launch
from mae_dist.train.launch import HungError, TrainingError, run_training
from mae_dist.train.stopping import Request, StoppedError
from mae_dist.train.training import Training

SUMMARY = {"progress": {"step": 12}}


@pytest.fixture
def run(tmp_path, monkeypatch) -> Callable[..., Any]:
    """Runs a training whose fits return what they are given, one after another, or call it first."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    training = Training(
        config=load("pretrain/demo", ["watch.step_seconds=60"]),
        output=str(tmp_path),
        catalog=str(tmp_path / "catalog.parquet"),
    )

    def run(*outcomes: Any) -> Any:
        left = list(outcomes)

        def fit() -> Any:
            outcome = left.pop(0)
            if callable(outcome):
                outcome(training)
            return SimpleNamespace(return_value=outcome)

        monkeypatch.setattr(launch, "RegroupingTrainer", lambda *args, **options: SimpleNamespace(fit=fit))
        result = run_training(training, use_gpu=False)
        assert left == []
        return result

    return run


def stopped(request: Request) -> dict[str, Any]:
    return {"stopped": "asked to stop at step 7, which is saved", "request": int(request)}


def fail(training: Training) -> None:
    raise WorkerGroupError("[Rank 1 Error Snippet]: died", {1: RuntimeError("died")})


def stand_still(training: Training) -> None:
    storage.write_bytes(storage.join(training.stacks, "a-rank-00000.txt"), b"thread MainThread")
    fail(training)


def test_who_was_asked_to_make_room_starts_again_as_often_as_it_is_asked(run):
    assert run(*[stopped(Request.MOVE)] * 5, SUMMARY) == SUMMARY


def test_a_job_that_was_asked_to_end_does_not_start_again_and_says_how_to_go_on(run):
    with pytest.raises(StoppedError) as told:
        run(stopped(Request.END))
    assert str(told.value) == "asked to stop at step 7, which is saved; the same command goes on from there"


def test_workers_that_failed_too_often_are_an_error_with_its_cause(run):
    with pytest.raises(TrainingError, match=r"\[Rank 1 Error Snippet\]: died$") as told:
        run(fail)
    assert not isinstance(told.value, HungError)
    assert isinstance(told.value.__cause__, WorkerGroupError)


def test_workers_that_stood_still_too_often_are_told_with_the_place_of_their_stacks(run, tmp_path):
    with pytest.raises(HungError) as told:
        run(stand_still)
    assert str(told.value) == (
        "workers stood still for longer than watch.step_seconds=60, more than resources.max_failures=3 "
        f"times; where they were: {tmp_path}/stacks"
    )
