"""Processes are kept ready for the next worker group: when they are asked for, and that they come."""

from __future__ import annotations

import time
from types import SimpleNamespace

import psutil
import pytest
import ray

from mae_dist.train import spares
from mae_dist.train.spares import DELAY_SECONDS, KEPT_SECONDS, NUM_COORDINATORS, Spares, start_spares


class Asked:
    """A worker group of two, a clock, and what was asked for."""

    def __init__(self, monkeypatch) -> None:
        self.now = 100.0
        self.coordinators: list[int] = []
        self.workers: list[tuple] = []
        monkeypatch.setattr(spares, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(spares, "start_spares", self.coordinators.append)
        execute = SimpleNamespace(remote=lambda *call: self.workers.append(call))
        worker = SimpleNamespace(actor=SimpleNamespace(execute=execute))
        self.group = SimpleNamespace(get_workers=lambda: [worker, worker])

    def after(self, callback: Spares, seconds: float) -> tuple[int, int]:
        """How often the controller's node and the workers' nodes have been asked by then."""
        self.now += seconds
        callback.after_worker_group_poll_status(None)
        return len(self.coordinators), len(self.workers)


@pytest.fixture
def asked(monkeypatch) -> Asked:
    return Asked(monkeypatch)


def test_a_group_asks_once_it_trains_and_again_when_its_spares_are_gone(asked):
    callback = Spares()
    assert asked.after(callback, KEPT_SECONDS) == (0, 0)
    callback.after_worker_group_training_start(asked.group)
    assert asked.after(callback, 0.5 * DELAY_SECONDS) == (0, 0)
    assert asked.after(callback, 0.5 * DELAY_SECONDS) == (1, 2)
    assert asked.after(callback, 0.5 * KEPT_SECONDS) == (1, 2)
    assert asked.after(callback, 0.5 * KEPT_SECONDS) == (2, 4)
    assert asked.coordinators == [NUM_COORDINATORS] * 2
    assert asked.workers == [(spares.start_spares, 1)] * 4


def test_a_group_that_has_ended_asks_for_nothing(asked):
    callback = Spares()
    callback.after_worker_group_training_start(asked.group)
    callback.before_worker_group_shutdown(asked.group)
    assert asked.after(callback, DELAY_SECONDS) == (0, 0)


def idle() -> set[int]:
    return {
        p.pid for p in psutil.process_iter(["cmdline"]) if "ray::IDLE" in " ".join(p.info["cmdline"] or ())
    }


@ray.remote(num_cpus=0)
class Actor:
    def pid(self) -> int:
        return psutil.Process().pid


@pytest.mark.slow
def test_a_node_starts_processes_that_the_next_actors_live_in(ray_cluster):
    before = idle()
    start_spares(2)
    deadline = time.monotonic() + 60
    while len(idle() - before) < 2:
        assert time.monotonic() < deadline, "no spare processes came"
        time.sleep(0.05)
    spare = idle()
    actors = [Actor.remote() for _ in range(2)]
    assert set(ray.get([actor.pid.remote() for actor in actors])) <= spare


@pytest.mark.slow
def test_a_node_that_does_not_answer_is_said_and_does_no_harm(ray_cluster, monkeypatch, caplog):
    [node] = [n for n in ray.nodes() if n["NodeID"] == ray.get_runtime_context().get_node_id()]
    monkeypatch.setattr(spares.ray, "nodes", lambda: [node | {"NodeManagerPort": 1}])
    start_spares(1)
    assert "no spare processes" in caplog.text
