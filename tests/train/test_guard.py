"""A batch that goes wrong is skipped and named; many in a row lead back to a checkpoint.

On one rank and with the plainest engine; test_guarded_engines.py has the others, on two.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from mae_dist.config.resilience import GuardConfig
from mae_dist.train import checkpoint
from mae_dist.train.guard import ENOUGH_NORMS, LossGuard, NonFiniteLossError
from tests.train.small_training import train_small


def spoil(*steps: int):
    """Makes the clips of these steps NaN."""

    def meet(step: int, clips: torch.Tensor) -> None:
        if step in steps:
            clips[0, 0] = torch.nan

    return meet


def killed_at(last: int, meet):
    """As `meet`, and then the end of the process, as far as the loop can tell."""

    def die(step: int, clips: torch.Tensor) -> None:
        if step == last:
            raise KeyboardInterrupt
        meet(step, clips)

    return die


def skipped(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "skipped.jsonl").read_text().splitlines()]


def unit(tmp_path, **options) -> LossGuard:
    return LossGuard(GuardConfig(patience=2, rollbacks=1), log_uri=str(tmp_path / "skipped.jsonl"), **options)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_makes_every_gradient_none(value, tmp_path):
    weight = torch.ones(3, requires_grad=True)
    # The gradient of this loss alone would be finite.
    unit(tmp_path).watch(weight.sum() + value, [1]).backward()
    assert weight.grad is not None
    assert weight.grad.isnan().all()


def test_a_finite_loss_and_its_gradient_pass_unchanged(tmp_path):
    weight = torch.full((3,), 0.1, requires_grad=True)
    loss = weight.square().sum()
    assert unit(tmp_path).watch(loss, [1]) == loss
    unit(tmp_path).watch(loss, [1]).backward()
    assert torch.equal(weight.grad, 2 * weight.detach())  # type: ignore[arg-type]


def test_bad_steps_in_a_row_lead_back_to_the_last_checkpoint_and_are_skipped(tmp_path):
    weights, progress, guard = train_small(str(tmp_path / "met"), meet=spoil(6, 7, 8))
    without, _, _ = train_small(str(tmp_path / "without"), meet=spoil(), leave_out=(5, 6, 7, 8))
    assert weights == without
    assert (progress.step, progress.rolled_back, progress.updates) == (12, 4, 8)
    assert guard.state.skipped == [(5, 8)]


def test_steps_that_left_no_trace_are_counted_in_the_log(tmp_path):
    lines: list[dict] = []
    # One is skipped, three are skipped and undone together with the one after the checkpoint before them.
    train_small(str(tmp_path), meet=spoil(2, 6, 7, 8), publish=lambda line: lines.append(dict(line)))
    assert [(line["step"], line["skipped_updates"]) for line in lines] == [(12, 5)]


def test_no_checkpoint_is_made_amid_bad_steps(tmp_path):
    train_small(str(tmp_path), meet=spoil(7, 8))
    assert checkpoint.complete_steps(str(tmp_path)) == [12, 4]


@pytest.mark.parametrize("last", [7, 8, 9, 11, 12])
def test_an_interrupted_run_skips_the_same_steps_and_ends_in_the_same_bits(last, tmp_path):
    """Killed in mid-streak, just before and after going back, and after the next checkpoint."""
    whole = train_small(str(tmp_path / "whole"), meet=spoil(5, 6, 7, 10), checkpoint_every=2)
    meet = killed_at(last, spoil(5, 6, 7, 10))
    with pytest.raises(KeyboardInterrupt):
        train_small(str(tmp_path / "killed"), meet=meet, checkpoint_every=2)
    again = train_small(str(tmp_path / "killed"), meet=spoil(5, 6, 7, 10), checkpoint_every=2)
    assert again[:2] == whole[:2]
    assert [list(window) for window in again[2].state.skipped] == [[5, 7], [10, 10]]
    assert skipped(tmp_path / "killed") == skipped(tmp_path / "whole")


def test_a_run_that_cannot_go_on_says_which_samples_on_which_rank_at_which_step(tmp_path):
    guard = GuardConfig(patience=2, rollbacks=0)
    with pytest.raises(NonFiniteLossError) as caught:
        train_small(str(tmp_path), meet=spoil(6, 7), guard=guard)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(
        "2 bad steps in a row at step 7, and no way back (guard.rollbacks=0). A lower "
    )
    assert lines[1:] == [
        "  step 6, rank 0: loss nan, gradient norm inf (not finite), samples 60",
        "  step 7, rank 0: loss nan, gradient norm inf (not finite), samples 70",
    ]


def test_bad_steps_before_the_first_checkpoint_end_the_run(tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"no way back \(there is no checkpoint yet\)"):
        train_small(str(tmp_path), meet=spoil(1, 2, 3))


def test_a_spike_is_named_with_how_large_it_was(tmp_path):
    guard = LossGuard(GuardConfig(spike=10.0), log_uri=str(tmp_path / "skipped.jsonl"))
    for step in range(1, 30):
        guard.watch(torch.tensor(1.0), [step])
        assert not guard.is_hopeless(step, torch.tensor(2.0 + step % 2))
    guard.watch(torch.tensor(1.0), [30, 31])
    assert not guard.is_hopeless(30, torch.tensor(60.0))
    [line] = skipped(tmp_path)
    assert (line["step"], line["samples"], line["reason"]) == (30, [30, 31], "spike, 20.0 times the median")


def test_no_gradient_is_too_large_before_enough_good_steps_or_without_a_limit(tmp_path):
    limited = LossGuard(GuardConfig(spike=10.0), log_uri=str(tmp_path / "skipped.jsonl"))
    unlimited = unit(tmp_path)
    for step in range(1, ENOUGH_NORMS + 1):
        assert limited.skip_above == unlimited.skip_above == math.inf
        assert not limited.is_hopeless(step, torch.tensor(2.0))
        assert not unlimited.is_hopeless(step, torch.tensor(2.0))
    assert (limited.skip_above, unlimited.skip_above) == (20.0, math.inf)


def test_a_run_that_ends_in_spikes_says_that_the_limit_may_be_too_low(tmp_path):
    guard = LossGuard(GuardConfig(spike=2.0, patience=1), log_uri=str(tmp_path / "skipped.jsonl"))
    for step in range(1, ENOUGH_NORMS + 1):
        guard.is_hopeless(step, torch.tensor(1.0))
    guard.watch(torch.tensor(1.0), [30])
    assert guard.is_hopeless(30, torch.tensor(4.0))
    with pytest.raises(NonFiniteLossError) as caught:
        guard.go_back(now=30, to=None)
    first, second = str(caught.value).splitlines()
    assert first.endswith("are the usual cures, a larger guard.spike where such gradients are normal.")
    assert second.endswith("gradient norm 4 (spike, 4.0 times the median), samples 30")


def test_an_overflow_of_float16_is_no_bad_step_but_a_loss_that_is_no_number_is(tmp_path):
    guard = unit(tmp_path, overflow_is_normal=True)
    guard.watch(torch.tensor(1.0), [1])
    guard.is_hopeless(1, torch.tensor(torch.inf))
    assert guard.state.streak == 0
    guard.watch(torch.tensor(torch.nan), [2])
    guard.is_hopeless(2, torch.tensor(torch.inf))
    assert guard.state.streak == 1


def test_many_samples_are_counted_in_messages_and_listed_in_the_file(tmp_path, caplog):
    guard = unit(tmp_path)
    guard.watch(torch.tensor(torch.nan), range(40))
    guard.is_hopeless(3, torch.tensor(torch.inf))
    assert caplog.messages[-1].endswith("samples " + ", ".join(map(str, range(16))) + " and 24 more")
    assert skipped(tmp_path)[0]["samples"] == list(range(40))
