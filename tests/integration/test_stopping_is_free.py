"""kill -9 of the whole job or of one worker changes nothing but the time it takes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.integration import small_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clean_run(tmp_path_factory) -> Path:
    """The run directory of an uninterrupted run, named by a path relative to where it was started."""
    folder = tmp_path_factory.mktemp("clean")
    small_run.run(small_run.recipe(folder / "small.yaml", "runs"), folder / "home")
    return small_run.run_directory(folder / "runs")


def wait_for(what: Callable[[], object], *, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def losses(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


def ledger(run: Path) -> dict[int, tuple]:
    """Block -> (samples, digest); asserts that a block that was built twice was the same twice."""
    blocks: dict[int, tuple] = {}
    for file in sorted((run / "ledger").iterdir()):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            seen = (tuple(entry["samples"]), entry["sha256"])
            assert blocks.setdefault(entry["block"], seen) == seen
    return blocks


def assert_same_result(run: Path, clean: Path) -> None:
    assert run.name == clean.name
    assert losses(run) == losses(clean)
    assert ledger(run) == ledger(clean)
    # Weights, not files: the library writes metadata in any order, and the card names each run's own catalog.
    found, expected = (load_file(where / "export" / "model.safetensors") for where in (run, clean))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(found[name], values), name


def checkpoint_exists(storage: Path) -> Callable[[], bool]:
    return lambda: any(storage.glob("small-*/checkpoints/*/COMPLETE"))


def test_the_clean_run_used_every_block_once(clean_run):
    assert sorted(ledger(clean_run)) == list(range(12 * 8 // 4))


def test_a_job_killed_with_all_its_processes_and_run_again_ends_in_the_same_bits(clean_run, tmp_path):
    recipe = small_run.recipe(tmp_path / "small.yaml", str(tmp_path / "runs"))
    job = small_run.start(recipe, tmp_path / "home")
    wait_for(checkpoint_exists(tmp_path / "runs"))
    tree = [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):  # Ray ends its short-lived helpers by itself
            process.kill()
    assert job.wait() == -signal.SIGKILL
    psutil.wait_procs(tree[1:], timeout=10)
    assert job.stdout is not None
    job.stdout.close()
    run = small_run.run_directory(tmp_path / "runs")
    assert not (run / "export").exists()

    small_run.run(recipe, tmp_path / "home")
    assert_same_result(run, clean_run)


def test_a_worker_killed_in_mid_training_is_replaced_and_the_result_is_the_same(clean_run, tmp_path):
    job = small_run.start(
        small_run.recipe(tmp_path / "small.yaml", str(tmp_path / "runs")), tmp_path / "home"
    )
    wait_for(checkpoint_exists(tmp_path / "runs"))
    workers = [p for p in psutil.Process(job.pid).children(recursive=True) if "RayTrainWorker" in p.name()]
    workers = workers or [
        p
        for p in psutil.Process(job.pid).children(recursive=True)
        if any("RayTrainWorker" in word for word in p.cmdline())
    ]
    assert len(workers) == 2
    os.kill(workers[1].pid, signal.SIGKILL)
    output, _ = job.communicate(timeout=400)
    assert job.returncode == 0, output
    run = small_run.run_directory(tmp_path / "runs")
    attempts = {file.name.split("-rank-")[0] for file in (run / "ledger").iterdir()}
    assert len(attempts) == 2
    assert_same_result(run, clean_run)


def test_a_finished_job_run_again_does_nothing(clean_run):
    before = {f: f.stat().st_mtime_ns for f in clean_run.glob("**/*") if f.is_file()}
    storage = clean_run.parent
    output = small_run.run(str(storage.parent / "small.yaml"), storage.parent / "home")
    assert "pretrain                     kept" in output
    changed = {
        f.relative_to(clean_run).parts[0] for f, when in before.items() if f.stat().st_mtime_ns != when
    }
    assert changed <= {"report", "config.yaml", "environment.json"}
