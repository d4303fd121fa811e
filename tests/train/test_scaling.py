"""The factor on a float16 loss falls where gradients overflow, rises again, and is part of the state."""

from __future__ import annotations

import pytest

from mae_dist.train.scaling import FIRST_SCALE, GROWTH_INTERVAL, LossScale


def after(*updates: bool, dynamic: bool = True) -> LossScale:
    scale = LossScale(dynamic=dynamic)
    for is_finite in updates:
        scale.count(is_finite=is_finite)
    return scale


def test_every_overflow_halves_the_scale_and_is_counted():
    scale = after(False, True, False)
    assert (scale.value, scale.skipped_updates) == (FIRST_SCALE / 4, 2)


def test_the_scale_never_falls_below_one():
    assert after(*[False] * 40).value == 1.0


def test_a_gradient_that_is_finite_but_too_large_is_counted_and_leaves_the_scale_alone():
    scale = LossScale(dynamic=True)
    scale.count(is_finite=True, is_too_large=True)
    assert (scale.value, scale.skipped_updates) == (FIRST_SCALE, 1)


def test_a_long_time_without_overflow_doubles_the_scale():
    assert after(*[True] * (GROWTH_INTERVAL - 1)).value == FIRST_SCALE
    assert after(*[True] * GROWTH_INTERVAL).value == 2 * FIRST_SCALE


def test_an_overflow_begins_the_waiting_anew():
    updates = [True] * (GROWTH_INTERVAL - 1) + [False] + [True] * (GROWTH_INTERVAL - 1)
    assert after(*updates).value == FIRST_SCALE / 2


def test_a_fixed_scale_stays_one_and_counts_what_was_skipped():
    scale = after(False, *[True] * GROWTH_INTERVAL, dynamic=False)
    assert (scale.value, scale.skipped_updates) == (1.0, 1)


def test_a_scale_goes_on_where_another_was_saved():
    saved = after(False, *[True] * (GROWTH_INTERVAL - 1))
    resumed = LossScale(dynamic=True)
    resumed.load(saved.scalars())
    resumed.count(is_finite=True)
    assert (resumed.value, resumed.skipped_updates) == (FIRST_SCALE, 1)


@pytest.mark.parametrize(("dynamic", "value"), [(True, FIRST_SCALE), (False, 1.0)])
def test_a_change_of_precision_begins_with_its_own_scale(dynamic, value):
    resumed = LossScale(dynamic=dynamic)
    resumed.load(after(False, dynamic=not dynamic).scalars())
    assert (resumed.value, resumed.skipped_updates) == (value, 1)
