"""The training that all are compared with, and the same one to be disturbed."""

from __future__ import annotations

import pytest

from tests.faults.watched_job import WatchedJob

STEPS, EVERY = 60, 5


@pytest.fixture(scope="session")
def clean_job(tmp_path_factory) -> WatchedJob:
    """A job that was left in peace."""
    job = WatchedJob(tmp_path_factory.mktemp("clean") / "job", steps=STEPS, every=EVERY)
    with job:
        job.start()
        job.finish()
    return job


@pytest.fixture
def job(tmp_path):
    """The same job in another place, not yet started."""
    with WatchedJob(tmp_path / "job", steps=STEPS, every=EVERY) as job:
        yield job
