"""From counts to percent, with the error that says what a difference is worth."""

from __future__ import annotations

import numpy as np
import pytest

from mae_dist.evaluate.accuracy import accuracy, interval, standard_error

SCORES = {
    "correct": [3.0, 0.0, 5.0],
    "correct5": [4.0, 1.0, 5.0],
    "correct_views": [2.5, 0.5, 4.0],
    "total": [4.0, 1.0, 5.0],
}
MISTAKES = {"mistakes": [[1, 0, 1], [0, 2, 1]]}


def test_the_standard_error_is_the_spread_of_repeated_measurements():
    """20,000 test sets of 50 samples, of which each is answered rightly with probability 0.3."""
    measured = np.random.default_rng(0).binomial(50, 0.3, 20_000) / 50
    assert standard_error(0.3, 50) == pytest.approx(measured.std(), rel=0.02)


def test_a_certain_answer_has_no_error():
    assert standard_error(0.0, 10) == standard_error(1.0, 10) == 0.0


def test_accuracy_is_over_all_samples_and_not_over_classes():
    result = accuracy(SCORES | MISTAKES, ["cat", "dog", "eel"])
    assert result["metric"] == "top1"
    assert result["value"] == pytest.approx(80.0)
    assert result["top5"] == pytest.approx(100.0)
    assert result["single_view"] == pytest.approx(70.0)
    assert result["num_samples"] == 10
    assert result["standard_error"] == pytest.approx(100 * (0.8 * 0.2 / 10) ** 0.5)


def test_each_class_has_its_own_counts():
    assert accuracy(SCORES | MISTAKES, ["cat", "dog", "eel"])["per_class"] == [
        {"class": "cat", "correct": 3, "total": 4},
        {"class": "dog", "correct": 0, "total": 1},
        {"class": "eel", "correct": 5, "total": 5},
    ]


def test_a_class_without_samples_is_listed_with_none():
    scores = {name: [*values, 0.0] for name, values in SCORES.items()}
    result = accuracy(scores | MISTAKES, ["cat", "dog", "eel", "fox"])
    assert result["value"] == pytest.approx(80.0)
    assert result["per_class"][-1] == {"class": "fox", "correct": 0, "total": 0}


def test_nothing_scored_is_an_error_that_says_so():
    nothing = {name: [0.0, 0.0] for name in SCORES} | {"mistakes": []}
    with pytest.raises(ValueError, match="no sample was scored; the test catalog has no labelled sample"):
        accuracy(nothing, ["cat", "dog"])


def test_the_interval_of_every_share_holds_it_and_stays_within_what_is_possible():
    for right in range(21):
        low, high = interval(right / 20, 20)
        assert 0 <= low <= right / 20 <= high <= 1
    # Newcombe 1998, table I: 81 of 263.
    assert interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_both_accuracies_have_their_interval_and_one_view_its_own_name():
    result = accuracy(SCORES | MISTAKES, ["cat", "dog", "eel"])
    assert result["interval"] == pytest.approx([100 * end for end in interval(0.8, 10)])
    assert result["top5_interval"] == pytest.approx([100 * end for end in interval(1.0, 10)])
    assert result["value"] != result["single_view"]


def test_mistakes_have_the_names_of_their_classes():
    assert accuracy(SCORES | MISTAKES, ["cat", "dog", "eel"])["confusion"] == [
        {"class": "dog", "predicted": "cat", "count": 1},
        {"class": "cat", "predicted": "eel", "count": 1},
    ]


def test_mistakes_that_were_not_counted_are_null_and_not_none_at_all():
    assert accuracy(SCORES | {"mistakes": None}, ["cat", "dog", "eel"])["confusion"] is None
