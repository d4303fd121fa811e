"""What stands in for an unreadable sample, and how many a run puts up with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mae_dist.config.resilience import FaultBudget
from mae_dist.data.faults import Fault, FaultBudgetError, check_budget, replacement


@given(st.integers(2, 50), st.integers(0, 2**32), st.integers(0, 100), st.integers(0, 9), st.data())
def test_a_replacement_is_another_sample_and_always_the_same(num_samples, seed, epoch, attempt, data):
    sample = data.draw(st.integers(0, num_samples - 1))
    other = replacement(seed, epoch, sample, attempt, range(num_samples))
    assert 0 <= other < num_samples
    assert other != sample
    assert replacement(seed, epoch, sample, attempt, range(num_samples)) == other


def test_attempts_and_epochs_try_different_samples():
    assert len({replacement(0, 0, 5, attempt, range(10**6)) for attempt in range(8)}) == 8
    assert len({replacement(0, epoch, 5, 0, range(10**6)) for epoch in range(8)}) == 8


@pytest.mark.parametrize(("num_faults", "num_seen"), [(10, 20), (10, 0), (30, 3000)])
def test_a_budget_allows_the_larger_of_its_two_bounds(num_faults, num_seen):
    check_budget(FaultBudget(share=0.01, at_least=10), num_faults=num_faults, num_seen=num_seen, latest=[])


def test_a_budget_used_up_names_the_counts_and_the_latest_files():
    latest = [Fault(i, f"s3://bucket/{i}.mp4", "the file is empty", 0) for i in range(11)]
    with pytest.raises(FaultBudgetError) as caught:
        check_budget(FaultBudget(share=0.01, at_least=10), num_faults=11, num_seen=500, latest=latest)
    message = str(caught.value)
    assert "11 of 500 samples could not be read; data.fault_budget allows 10" in message
    assert "s3://bucket/10.mp4: the file is empty" in message
    assert "s3://bucket/5.mp4" not in message
