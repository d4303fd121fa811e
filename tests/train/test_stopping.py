"""Asked to stop, a training saves where it is, on all ranks at the same step."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from mae_dist.train import checkpoint
from mae_dist.train.stopping import Request, StoppedError, StopRequest, catch_sigterm
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
    catch_sigterm()

    def meet(step, clips):
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with (
        stop.listening(),
        pytest.raises(StoppedError, match=r"^asked to stop at step 6, which is saved$") as told,
    ):
        train_small(str(tmp_path / "stopped"), meet=meet, stop=stop)
    assert told.value.request is Request.MOVE
    assert checkpoint.newest(str(tmp_path / "stopped")) == 6
    again, progress, _ = train_small(str(tmp_path / "stopped"), meet=lambda step, clips: None)
    assert (again, progress.step) == (whole, 12)


def test_a_sigterm_that_nobody_listens_for_does_what_it_did_before(own_sigterm):
    met = []
    signal.signal(signal.SIGTERM, lambda number, frame: met.append(number))
    catch_sigterm()
    with StopRequest().listening():
        signal.raise_signal(signal.SIGTERM)
    assert met == []
    signal.raise_signal(signal.SIGTERM)
    assert met == [signal.SIGTERM]


@pytest.mark.parametrize(
    ("first_bad", "saved"), [(6, "the newest checkpoint is of step 4"), (2, "nothing is saved yet")]
)
def test_a_stop_amid_bad_steps_says_what_is_saved(tmp_path, first_bad, saved):
    stop = StopRequest()

    def meet(step, clips):
        if step in (first_bad, first_bad + 1):
            clips[0] = torch.nan
        if step == first_bad + 1:
            stop.ask()

    step = first_bad + 1
    with pytest.raises(
        StoppedError, match=rf"^asked to stop at step {step}, a bad one \(2 in a row\), so {saved}$"
    ):
        train_small(str(tmp_path), meet=meet, stop=stop)


def test_the_end_of_the_job_counts_more_than_a_move(tmp_path):
    stop = StopRequest()
    stop.ask(Request.END)
    stop.ask(Request.MOVE)
    with pytest.raises(StoppedError) as told:
        train_small(str(tmp_path), meet=lambda step, clips: None, stop=stop)
    assert told.value.request is Request.END


def test_a_request_in_the_last_step_changes_nothing(tmp_path):
    stop = StopRequest()
    _, progress, _ = train_small(
        str(tmp_path), meet=lambda step, clips: stop.ask() if step == 12 else None, stop=stop
    )
    assert progress.step == 12


def stop_on_rank(rank: int, folder: str) -> tuple[str, Request]:
    stop = StopRequest()

    def meet(step, clips):
        if step == 6 and rank == 1:
            stop.ask(Request.END)

    try:
        train_small(folder, meet=meet, stop=stop)
    except StoppedError as error:
        return str(error), error.request
    return "not stopped", Request.NONE


@pytest.mark.slow
def test_one_rank_that_is_asked_stops_all_at_the_same_step(tmp_path):
    expected = ("asked to stop at step 7, which is saved", Request.END)
    assert run_ranks(2, stop_on_rank, str(tmp_path)) == [expected] * 2
    assert checkpoint.newest(str(tmp_path)) == 7
