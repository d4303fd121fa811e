"""Trainings that are killed, resized, damaged and fed bad numbers end as if nothing had happened.

The long versions, with more of everything, are `make faults` and `make soak`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults import run_files, scenarios
from tests.faults.conftest import EVERY, STEPS
from tests.faults.run_files import differences
from tests.faults.watched_job import BLOCKS_PER_STEP, WatchedJob

pytestmark = pytest.mark.slow

BAD_STEPS = 40
PLUGINS = Path(__file__).parent / "bad_batches"


def test_a_run_in_peace_uses_every_block_once(clean_job):
    blocks = run_files.used(clean_job.run)
    assert sorted(blocks) == list(range(STEPS * BLOCKS_PER_STEP))


def test_ranks_killed_in_steps_in_saves_and_at_the_start_change_nothing(clean_job, job):
    measured = scenarios.kill_ranks(job, kills=5, steps=STEPS, every=EVERY, seed=1)
    assert sum(measured.faults.values()) == 5
    assert measured.faults["save"] > 0
    assert len(run_files.attempts(job.run)) > 4
    assert differences(job.run, clean_job.run) == []


def test_a_killed_job_whose_newest_checkpoint_was_damaged_goes_on_from_the_one_before(clean_job, job):
    """All its processes are killed at once, driver and Ray too; the same command is given again."""
    measured = scenarios.damage_checkpoints(job, ["*.safetensors"], steps=STEPS, seed=1)
    assert len(measured.fell_back) == 1
    assert len(run_files.attempts(job.run)) == 2
    assert differences(job.run, clean_job.run) == []


def test_other_numbers_of_workers_and_zero_stages_see_the_same_samples_and_losses(clean_job, job):
    scenarios.change_sizes(job, [(1, 0), (4, 3)], steps=STEPS)
    assert differences(job.run, clean_job.run, tolerance=1e-6) == []


def test_bad_batches_of_one_rank_are_skipped_the_same_way_in_an_interrupted_run(tmp_path):
    with WatchedJob(tmp_path / "peace", steps=BAD_STEPS, every=EVERY, plugins=PLUGINS) as peace:
        peace.start()
        peace.finish()
    with WatchedJob(tmp_path / "killed", steps=BAD_STEPS, every=EVERY, plugins=PLUGINS) as killed:
        scenarios.kill_after_bad_batches(killed, after=[23])
    assert differences(killed.run, peace.run) == []

    skipped = (peace.run / "skipped.jsonl").read_text()
    assert (killed.run / "skipped.jsonl").read_text() == skipped
    named = [json.loads(line) for line in skipped.splitlines()]
    assert [(line["step"], line["rank"]) for line in named] == [(13, 1), (22, 1), (23, 1), (24, 0)]
    blocks = run_files.used(peace.run)
    assert [tuple(line["samples"]) for line in named] == [blocks[block][0] for block in (49, 85, 91, 94)]


def test_a_finished_job_run_again_does_nothing(clean_job):
    run = clean_job.run
    before = written(run)
    with clean_job:
        clean_job.start()
        clean_job.finish()
    assert "pretrain                     kept" in clean_job.output
    changed = {file.parts[0] for file, _ in before.items() ^ written(run).items()}
    assert changed <= {"report", "config.yaml", "environment.json", "drivers", "steps.json"}


def written(run: Path) -> dict[Path, int]:
    """When each file of a run was written last (ns)."""
    return {file.relative_to(run): file.stat().st_mtime_ns for file in run.glob("**/*") if file.is_file()}
