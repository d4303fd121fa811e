"""Workers and drivers asked to stop, and workers that stand still: the run goes on to the same bits."""

from __future__ import annotations

import contextlib
import logging
import time

import psutil
import pytest

from mae_dist.train import checkpoint
from tests.faults.conftest import STEPS
from tests.faults.run_files import differences
from tests.faults.watched_job import WatchedJob, recipe

pytestmark = pytest.mark.slow

STEP_SECONDS = 20.0
"""Deadline of a step: long enough for a machine with other work."""
GRACE_SECONDS = 10.0
"""From SIGTERM to SIGKILL."""


@pytest.fixture
def job(tmp_path):
    """It saves at the end alone: whatever is gone back to was saved because of a request.

    One failure is allowed, which is the worker that stands still: requests are none.
    """
    resources = recipe(steps=STEPS, every=STEPS)["resources"] | {"max_failures": 1}
    watch = {"step_seconds": STEP_SECONDS}
    with WatchedJob(tmp_path / "job", steps=STEPS, every=STEPS, resources=resources, watch=watch) as job:
        yield job


def test_requests_to_stop_and_a_worker_that_stands_still_change_nothing_in_the_result(clean_job, job):
    job.start()
    workers = terminate_a_worker(job, job.new_workers())
    stop_a_worker_for_ever(job, workers)
    terminate_the_driver(job)
    job.start()
    job.finish()
    assert differences(job.run, clean_job.run) == []
    assert not (job.run / "ray").exists()


def newest_checkpoint(job: WatchedJob) -> int:
    saved = checkpoint.newest(str(job.run / "checkpoints"))
    assert saved is not None
    return saved


def terminate_a_worker(job: WatchedJob, workers: list[psutil.Process]) -> list[psutil.Process]:
    """SIGTERM, and SIGKILL when the time of grace is over: saved in time, and no step is lost.

    Returns the workers of the group that follows, which has made a step.
    """
    job.wait_for("step 10", job.reached(10))
    [victim, *_], reached = workers, job.step()
    victim.terminate()
    psutil.wait_procs([victim], timeout=GRACE_SECONDS)
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.kill()
    assert newest_checkpoint(job) >= reached
    mark = job.mark()
    workers = job.new_workers(known={worker.pid for worker in workers})
    job.wait_for("a step of the next worker group", lambda: job.stepped_since(mark))
    return workers


def stop_a_worker_for_ever(job: WatchedJob, workers: list[psutil.Process]) -> None:
    """All say where they are, and the group starts again."""
    [*_, victim] = workers
    victim.suspend()
    suspended, mark = time.monotonic(), job.mark()
    job.wait_for("the end of the worker that stands still", lambda: not victim.is_running())
    found = {file.name.split("-rank-")[1]: file.read_text() for file in (job.run / "stacks").iterdir()}
    assert sorted(found) == ["00000.txt", "00001.txt"]
    assert any(f"process {victim.pid} is stopped by a signal" in text for text in found.values())
    assert any("in train\n" in text for text in found.values())
    job.wait_for("a step of the next worker group", lambda: job.stepped_since(mark))
    # Goal on an idle machine: 30 s.
    took = time.monotonic() - suspended - STEP_SECONDS
    logging.getLogger(__name__).info("%.1f s from the deadline to the next step", took)


def terminate_the_driver(job: WatchedJob) -> None:
    """The job ends in order, says so, and goes on when it is run again."""
    assert job.terminate() == 1
    said = (
        f"asked to stop at step {newest_checkpoint(job)}, which is saved; the same command goes on from there"
    )
    assert f"pretrain failed: StoppedError: {said}" in job.output
