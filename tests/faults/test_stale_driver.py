"""A driver that stands still at any request, while another takes over and goes on, changes nothing after."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mae_dist import storage
from mae_dist.orchestrate.step import Step
from mae_dist.orchestrate.store import RunStore
from mae_dist.storage.fence import Fence, FencedOffError
from mae_dist.train import checkpoint
from mae_dist.train.checkpoint import Checkpointer, CheckpointError, Progress
from mae_dist.train.engine import FullState

REQUESTS = ("create_exclusive", "write_bytes", "list_dir", "read_bytes", "exists", "delete", "delete_tree")
STALE, LATER = 1.0, 2.0
"""Values of the weights, by which driver they were trained."""


class Weights:
    """An engine of eight values that tell who has trained them."""

    def __init__(self, trained_by: float) -> None:
        self.trained_by = trained_by

    def fragments(self):
        return {"weight/0/w": torch.full((8,), self.trained_by)}

    def load(self, state: FullState, *, num_updates: int) -> None:
        [self.trained_by] = state.flat("weight", "w", 8).unique().tolist()


class Pause:
    """Calls `meanwhile` once, in place of request number `point` of whoever works, and then that request."""

    def __init__(self, point: int, meanwhile: Callable[[], None]) -> None:
        self._left, self._meanwhile = point, meanwhile
        self.has_happened = False

    def install(self, patch) -> None:
        for name in REQUESTS:
            patch.setattr(storage, name, self._paused(getattr(storage, name)))

    def _paused(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def paused(*arguments: Any, **options: Any) -> Any:
            self._before_each()
            return original(*arguments, **options)

        return paused

    def _before_each(self) -> None:
        self._left -= 1
        if self._left == -1:
            self._meanwhile()
            self.has_happened = True


def take_over(run: str, token: int) -> Fence:
    fence = Fence(storage.join(run, "drivers"), token)
    assert storage.create_exclusive(fence.file, b"{}")
    fence.settle()
    return fence


def save(run: str, step: int, fence: Fence, trained_by: float, *, keep: int) -> None:
    attempt = f"driver{fence.token}"
    place = storage.join(run, "checkpoints")
    saver = Checkpointer(place, rank=0, world=1, attempt=attempt, keep=keep, fence=fence)
    saver.save(Weights(trained_by), Progress(step=step))
    saver.wait()


def trained_by(run: str, step: int) -> float:
    weights = Weights(0.0)
    checkpoint.load(storage.join(run, "checkpoints"), step, weights)
    return weights.trained_by


@pytest.fixture
def place(request, tmp_path, monkeypatch) -> str:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power cut is tested here
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_bucket")


@pytest.mark.parametrize(
    ("place", "keep", "stride"), [("local", 9, 1), ("local", 1, 1), ("s3", 9, 3)], indirect=["place"]
)
def test_a_save_that_stands_still_anywhere_is_in_the_later_drivers_history_or_in_none(
    place, keep, stride, monkeypatch
):
    """The later driver goes on from what it finds, by two checkpoints; the stale one then ends its save."""
    outcomes = set()
    for point in itertools.count(step=stride):
        run = storage.join(place, f"point-{point}")
        checkpoints = storage.join(run, "checkpoints")
        stale = take_over(run, 1)
        save(run, 10, stale, STALE, keep=keep)
        seen: list[int] = []

        def go_on(run=run, checkpoints=checkpoints, seen=seen) -> None:
            later = take_over(run, 2)
            newest = checkpoint.newest(checkpoints)
            assert newest is not None
            seen.append(newest)
            for step in (newest + 10, newest + 20):
                save(run, step, later, LATER, keep=keep)

        pause = Pause(point, go_on)
        was_saved = True
        with monkeypatch.context() as patch:
            pause.install(patch)
            try:
                save(run, 20, stale, STALE, keep=keep)
            except CheckpointError:
                was_saved = False
        if not pause.has_happened:
            break
        [base] = seen
        outcomes.add((was_saved, base))
        assert base == 20 or not was_saved
        assert checkpoint.newest(checkpoints) == base + 20
        for step in checkpoint.complete_steps(checkpoints)[:keep]:
            assert trained_by(run, step) == (STALE if step <= base else LATER)
        # Whatever the stale driver may have left is gone with the next save.
        save(run, base + 30, Fence(stale.uri, 2), LATER, keep=keep)
        kept = [step for step in (base + 30, base + 20, base + 10, 20, 10) if step >= 10][:keep]
        assert checkpoint.complete_steps(checkpoints) == sorted(set(kept), reverse=True)
    assert outcomes >= {(False, 10), (True, 20)}
    assert point > 10


def work(config, output, inputs):
    return {}


PROBE = Step(name="probe", run=work, config=None, identity="a", output="evaluations/probe")


@pytest.mark.parametrize(
    ("place", "has_failed_before", "stale_fails"),
    [*itertools.product(["local"], [False, True], [False, True]), ("s3", True, False)],
    indirect=["place"],
)
def test_a_step_that_a_later_driver_finished_keeps_its_record(
    place, has_failed_before, stale_fails, monkeypatch
):
    def conclude(store: RunStore, *, seconds: float) -> None:
        if stale_fails:
            store.fail(PROBE, seconds=seconds, reason="out of memory")
        else:
            store.finish(PROBE, seconds=seconds, summary={})

    for point in itertools.count():
        run = storage.join(place, f"point-{point}")
        stale = RunStore(run, fence=take_over(run, 1))
        stale.begin(PROBE)
        if has_failed_before:
            stale.fail(PROBE, seconds=STALE, reason="out of disk")
        was_done: list[bool] = []

        def go_on(run=run, was_done=was_done) -> None:
            later = RunStore(run, fence=take_over(run, 2))
            was_done.append(later.is_done(PROBE))
            if not was_done[0]:
                later.begin(PROBE)
                later.finish(PROBE, seconds=LATER, summary={})

        pause = Pause(point, go_on)
        with monkeypatch.context() as patch:
            pause.install(patch)
            try:
                conclude(stale, seconds=STALE)
            except FencedOffError:
                assert pause.has_happened
        if not pause.has_happened:
            break
        record = stale.record(PROBE)
        assert record is not None
        assert record["driver"] == (1 if was_done == [True] else 2)
        assert stale.is_done(PROBE)
    assert point >= 2
