"""Asked to stop, a training saves where it is, on all ranks at the same step."""

from __future__ import annotations

import os
import signal

import pytest

from mae_dist.train import checkpoint
from mae_dist.train.stopping import StoppedError, StopRequest
from tests.ranks import run_ranks
from tests.train.small_training import train_small


@pytest.fixture
def own_sigterm():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_leads_to_a_checkpoint_of_the_step_at_hand_and_nothing_is_lost(tmp_path, own_sigterm):
    whole, _, _ = train_small(str(tmp_path / "whole"), meet=lambda step, clips: None)
    stop = StopRequest()
    stop.listen()

    def meet(step, clips):
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError, match="asked to stop at step 6; what was reached is saved"):
        train_small(str(tmp_path / "stopped"), meet=meet, stop=stop)
    assert checkpoint.newest(str(tmp_path / "stopped")) == 6
    again, progress, _ = train_small(str(tmp_path / "stopped"), meet=lambda step, clips: None)
    assert (again, progress.step) == (whole, 12)


def test_a_request_in_the_last_step_changes_nothing(tmp_path):
    stop = StopRequest()
    _, progress, _ = train_small(
        str(tmp_path), meet=lambda step, clips: stop.ask() if step == 12 else None, stop=stop
    )
    assert progress.step == 12


def stop_on_rank(rank: int, folder: str) -> str:
    stop = StopRequest()

    def meet(step, clips):
        if step == 6 and rank == 1:
            stop.ask()

    try:
        train_small(folder, meet=meet, stop=stop)
    except StoppedError as error:
        return str(error)
    return "not stopped"


@pytest.mark.slow
def test_one_rank_that_is_asked_stops_all_at_the_same_step(tmp_path):
    assert (
        run_ranks(2, stop_on_rank, str(tmp_path))
        == ["asked to stop at step 7; what was reached is saved"] * 2
    )
    assert checkpoint.newest(str(tmp_path)) == 7
