"""What stands still says where, and ends; a process that cannot is ended by its neighbour."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from mae_dist import storage
from mae_dist.config.resilience import WatchConfig
from mae_dist.train import watchdog
from mae_dist.train.watchdog import EXIT_STATUS, Watchdog

SOON = WatchConfig(step_seconds=0.1, first_step_seconds=0.1)


@pytest.fixture
def ended(monkeypatch) -> threading.Event:
    """Set instead of ending the process."""
    event = threading.Event()
    monkeypatch.setattr(watchdog, "OTHERS_SECONDS", 0)
    monkeypatch.setattr(os, "_exit", lambda status: event.set())
    return event


def wait_for_data(ended: threading.Event) -> None:
    assert ended.wait(60)


def test_who_waits_for_data_too_long_is_ended_and_its_stacks_show_the_wait(tmp_path, ended):
    with Watchdog(SOON, uri=str(tmp_path / "stacks"), name="a-rank-00000", neighbours={}):
        wait_for_data(ended)
    told = (tmp_path / "stacks" / "a-rank-00000.txt").read_text()
    assert told.startswith("no step was finished within 0.1 s (watch.first_step_seconds), 0 before that\n")
    assert "thread MainThread\n" in told
    assert "in wait_for_data\n    assert ended.wait(60)" in told
    assert "thread watchdog" not in told


def test_after_a_step_the_deadline_is_that_of_steps(tmp_path, ended):
    patient = WatchConfig(step_seconds=0.1, first_step_seconds=1e6)
    with Watchdog(patient, uri=str(tmp_path), name="a-rank-00000", neighbours={}) as watch:
        list(watch.beats_over(["a batch", "and another"]))
        wait_for_data(ended)
    told = (tmp_path / "a-rank-00000.txt").read_text()
    assert told.startswith("no step was finished within 0.1 s (watch.step_seconds), 2 before that\n")


def test_storage_that_hangs_keeps_nobody_from_ending(monkeypatch, ended):
    monkeypatch.setattr(watchdog, "WRITE_SECONDS", 0.1)
    monkeypatch.setattr(storage, "write_bytes", lambda uri, data: threading.Event().wait())
    with Watchdog(SOON, uri="s3://nowhere", name="a-rank-00000", neighbours={}):
        wait_for_data(ended)


def test_who_is_done_in_time_is_left_alone(tmp_path, ended):
    with Watchdog(WatchConfig(), uri=str(tmp_path), name="a-rank-00000", neighbours={}) as watch:
        pass
    watch._thread.join()
    assert not ended.is_set()
    assert list(tmp_path.iterdir()) == []


def test_a_deadline_for_the_first_step_that_is_shorter_than_for_others_is_refused():
    with pytest.raises(ValueError, match=r"must be at least step_seconds=600, got 60$"):
        WatchConfig(first_step_seconds=60)


def hang(rank: int, folder: str) -> None:
    """Three ranks of a group; the second is stopped for ever, so that the others wait in a collective."""
    import torch
    import torch.distributed as dist

    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=3, timeout=timedelta(minutes=5))
    neighbours = watchdog.find_neighbours("a")
    assert sorted(neighbours) == [f"a-rank-{other:05d}" for other in range(3) if other != rank]
    config = WatchConfig(step_seconds=1, first_step_seconds=60)
    with Watchdog(config, uri=f"{folder}/stacks", name=f"a-rank-{rank:05d}", neighbours=neighbours) as watch:
        dist.barrier()
        watch.beat()
        if rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        dist.all_reduce(torch.zeros(1))


@pytest.mark.slow
def test_a_stopped_rank_is_killed_and_those_that_wait_for_it_end_with_their_stacks(tmp_path: Path):
    spawn = multiprocessing.get_context("spawn")
    ranks = [spawn.Process(target=hang, args=(rank, str(tmp_path))) for rank in range(3)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [EXIT_STATUS, -signal.SIGKILL, EXIT_STATUS]
    told = {file.name: file.read_text() for file in (tmp_path / "stacks").iterdir()}
    assert sorted(told) == [f"a-rank-{rank:05d}.txt" for rank in range(3)]
    for rank in (0, 2):
        assert "dist.all_reduce(torch.zeros(1))" in told[f"a-rank-{rank:05d}.txt"]
    assert f"process {ranks[1].pid} is stopped by a signal" in told["a-rank-00001.txt"]
