"""What is said of a failed attempt, and whether another one is worth its time."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError

from mae_dist import storage
from mae_dist.config.problems import ConfigError
from mae_dist.orchestrate.failure import REASON_CHARACTERS, failure_of, lost_process
from mae_dist.train.guard import NonFiniteLossError
from mae_dist.train.launch import HungError, TrainingError
from mae_dist.train.stopping import Request, StoppedError


def failure(error: BaseException):
    try:
        raise error
    except BaseException as caught:
        return failure_of(caught)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("labels disagree"),
        ConfigError("demo", []),
        KeyError("top1"),
        ModuleNotFoundError("no module 'timn'"),
        NonFiniteLossError("the loss is not finite"),
        StoppedError("asked to stop", Request.END),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_would_only_come_again_is_permanent(error):
    assert failure(error).is_permanent


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: unspecified launch failure"),
        MemoryError(),
        storage.StorageError("s3://bucket: no answer"),
        FileNotFoundError("gone"),
        HungError("workers stood still"),
        SystemExit(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_machine_may_pass(error):
    assert not failure(error).is_permanent


def test_the_cause_decides_and_not_what_was_wrapped_around_it():
    wrapped = TrainingError("a worker failed")
    wrapped.__cause__ = ValueError("global_batch")
    assert failure(wrapped).is_permanent
    assert failure(wrapped).reason == "ValueError: global_batch"


@pytest.mark.parametrize(("kind", "is_permanent"), [("ValueError", True), ("OSError", False)])
def test_of_an_error_in_another_process_its_text_decides(kind, is_permanent):
    text = f"Traceback (most recent call last):\n  File 'a.py', line 1, in f\n    f()\n{kind}: of a task"
    found = failure(RayTaskError("task", text, None))
    assert (found.reason, found.is_permanent) == (f"{kind}: of a task", is_permanent)


def test_a_long_reason_is_cut_and_the_traceback_is_whole():
    found = failure(RuntimeError("word " * 500))
    assert len(found.reason) == REASON_CHARACTERS
    assert found.reason.endswith("...")
    assert "word " * 500 in found.traceback


def test_a_process_that_died_is_told_in_one_line_and_may_pass():
    found = lost_process(ActorDiedError())
    assert found.reason == "its process died: The actor died unexpectedly before finishing this task."
    assert not found.is_permanent


def test_a_process_that_was_ended_for_want_of_memory_is_told():
    found = lost_process(OutOfMemoryError("Task was killed due to the node running low on memory."))
    assert found.reason == (
        "its process was ended for want of memory: Task was killed due to the node running low on memory."
    )
    assert not found.is_permanent
