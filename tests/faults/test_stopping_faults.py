"""Workers and drivers asked to stop, and workers that stand still: the run goes on to the same bits."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from mae_dist.train import checkpoint
from tests.integration import small_run

pytestmark = pytest.mark.slow

STEP_SECONDS = 20.0
"""Deadline of a step: long enough for a machine with other work."""
GRACE_SECONDS = 10.0
"""From SIGTERM to SIGKILL."""


def recipe(folder: Path) -> str:
    """Checkpoints at the end alone: whatever is gone back to was saved because of a request. One failure is
    allowed, which is the worker that stands still: requests are none."""
    return small_run.recipe(
        folder / "small.yaml",
        str(folder / "runs"),
        train=small_run.TRAIN | {"length": "100 steps"},
        checkpoint={"every": "100 steps", "keep": 1},
        log={"every": 1},
        watch={"step_seconds": STEP_SECONDS},
        resources={"workers": 2, "max_failures": 1},
    )


def wait_for(what: Callable[[], object], *, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def step(run: Path) -> int:
    """The newest step that was logged; 0 before the first one."""
    with contextlib.suppress(FileNotFoundError):
        return json.loads((run / "progress.json").read_text())["step"]
    return 0


def metrics(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


def workers(job: subprocess.Popen[str]) -> list[psutil.Process]:
    """Of the training that runs, oldest first."""
    children = psutil.Process(job.pid).children(recursive=True)
    found = [p for p in children if any("RayTrainWorker" in word for word in p.cmdline()[:1])]
    return sorted(found, key=lambda process: process.create_time())


@contextlib.contextmanager
def ended(job: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The job, of which nothing is left afterwards, whatever went wrong."""
    try:
        yield job
    finally:
        if job.poll() is None:
            for process in [*psutil.Process(job.pid).children(recursive=True), psutil.Process(job.pid)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        job.communicate()


def run_directory(folder: Path, job: subprocess.Popen[str]) -> Path:
    wait_for(lambda: list(folder.glob("runs/small-*/progress.json")) or job.poll() is not None)
    return small_run.run_directory(folder / "runs")


def disturb(job: subprocess.Popen[str], folder: Path) -> Path:
    """Ask, stop and end what runs, and assert what follows each; returns the run directory."""
    # SIGTERM of a worker, SIGKILL when the time of grace is over: saved in time, and no step is lost.
    run = run_directory(folder, job)
    wait_for(lambda: step(run) >= 10)
    victim, reached = workers(job)[0], step(run)
    victim.terminate()
    psutil.wait_procs([victim], timeout=GRACE_SECONDS)
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.kill()
    saved = checkpoint.newest(str(run / "checkpoints"))
    assert saved is not None
    assert saved >= reached
    wait_for(lambda: step(run) > saved)

    # SIGSTOP of a worker for ever: all say where they are, and the group starts again.
    reached = step(run)
    [*_, victim] = workers(job)
    victim.suspend()
    suspended = time.monotonic()
    wait_for(lambda: not victim.is_running())
    found = {file.name.split("-rank-")[1]: file.read_text() for file in (run / "stacks").iterdir()}
    assert sorted(found) == ["00000.txt", "00001.txt"]
    assert any(f"process {victim.pid} is stopped by a signal" in text for text in found.values())
    assert any("in train\n" in text for text in found.values())
    before = (run / "progress.json").stat().st_mtime
    wait_for(lambda: (run / "progress.json").stat().st_mtime > before)
    # Goal on an idle machine: 30 s.
    took = time.monotonic() - suspended - STEP_SECONDS
    logging.getLogger(__name__).info("%.1f s from the deadline to the next step", took)

    # SIGTERM of the driver: the job ends in order, says so, and goes on when it is run again.
    job.terminate()
    output, _ = job.communicate(timeout=120)
    assert job.returncode == 1, output
    newest = checkpoint.newest(str(run / "checkpoints"))
    said = f"asked to stop at step {newest}, which is saved; the same command goes on from there"
    assert f"pretrain failed: StoppedError: {said}" in output
    return run


def test_requests_to_stop_and_a_worker_that_stands_still_change_nothing_in_the_result(tmp_path):
    clean_folder, folder = tmp_path / "clean", tmp_path / "disturbed"
    for each in (clean_folder, folder):
        each.mkdir()
    small_run.run(recipe(clean_folder), clean_folder / "home")
    clean = small_run.run_directory(clean_folder / "runs")

    with ended(small_run.start(recipe(folder), folder / "home")) as job:
        run = disturb(job, folder)
    small_run.run(recipe(folder), folder / "home")
    assert metrics(run) == metrics(clean)
    ours, theirs = (load_file(where / "export" / "model.safetensors") for where in (run, clean))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert ours.keys() == theirs.keys()
    assert not os.path.exists(run / "ray")
