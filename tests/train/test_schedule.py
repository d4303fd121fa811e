"""The learning rate over a training."""

from __future__ import annotations

import pytest

from mae_dist.config.duration import Duration
from mae_dist.config.optimisation import OptimConfig, TrainConfig
from mae_dist.train.schedule import Schedule, schedule_of

SCHEDULE = Schedule(total_steps=110, warmup_steps=10, peak_lr=2.0, min_lr=0.5)


def test_warm_up_is_linear_from_zero():
    assert [SCHEDULE.lr(step) for step in (0, 5, 10)] == [0.0, 1.0, 2.0]


def test_the_cosine_is_half_way_down_in_its_middle_and_ends_at_the_floor():
    assert SCHEDULE.lr(60) == pytest.approx((2.0 + 0.5) / 2)
    assert SCHEDULE.lr(110) == pytest.approx(0.5)
    assert SCHEDULE.lr(10_000) == pytest.approx(0.5)


def test_the_rate_never_rises_after_the_warm_up():
    rates = [SCHEDULE.lr(step) for step in range(10, 111)]
    assert rates == sorted(rates, reverse=True)


def test_a_schedule_without_warm_up_starts_at_its_peak():
    assert Schedule(total_steps=10, warmup_steps=0, peak_lr=1.0, min_lr=0.0).lr(0) == 1.0


def test_epochs_become_steps_and_the_rate_follows_the_global_batch():
    """MAE's published schedule: 800 epochs of 1,281,167 images at 4096, peak 1.5e-4 * 16."""
    train = TrainConfig(
        length=Duration(800, "epochs"),
        warmup=Duration(40, "epochs"),
        global_batch=4096,
        micro_batch=64,
        optim=OptimConfig(base_lr=1.5e-4),
    )
    schedule = schedule_of(train, samples_per_epoch=1_281_167)
    assert schedule.total_steps == 250_228
    assert schedule.warmup_steps == 12_511
    assert schedule.peak_lr == pytest.approx(2.4e-3)
