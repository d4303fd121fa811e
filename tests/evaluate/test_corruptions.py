"""The mean corruption error as its authors define it."""

from __future__ import annotations

import pytest

from mae_dist.evaluate.corruptions import ALEXNET_ERRORS, SEVERITIES, corruption_errors

SAMPLES = 1_000_000


def counts(error, corruptions=ALEXNET_ERRORS):
    """Right answers and samples where the error is that of `error(corruption, severity)`."""
    return {
        (corruption, severity): (SAMPLES - round(SAMPLES * error(corruption, severity)), SAMPLES)
        for corruption in corruptions
        for severity in SEVERITIES
    }


def test_alexnet_has_a_mean_corruption_error_of_100():
    found = corruption_errors(counts(lambda corruption, severity: ALEXNET_ERRORS[corruption]))
    assert found["mean_corruption_error"] == pytest.approx(100)
    # 78.9 is what AlexNet's errors come to without being divided by themselves.
    assert found["mean_error"] == pytest.approx(78.9, abs=0.05)


def test_severities_are_summed_before_they_are_divided():
    found = corruption_errors(counts(lambda _, severity: severity / 10))
    expected = sum(30 / alexnet for alexnet in ALEXNET_ERRORS.values()) / 15
    assert found["mean_corruption_error"] == pytest.approx(expected)
    assert found["mean_error"] == pytest.approx(30)


def test_a_corruption_that_the_set_does_not_count_stands_in_the_table_alone():
    fifteen = corruption_errors(counts(lambda *_: 0.5))
    more = corruption_errors(counts(lambda *_: 0.5) | counts(lambda *_: 0.0, ["saturate"]))
    assert more["mean_corruption_error"] == fifteen["mean_corruption_error"]
    assert {"corruption": "saturate", "error": 0.0, "by_severity": dict.fromkeys(SEVERITIES, 0.0)} in more[
        "table"
    ]


def test_without_all_of_them_there_is_no_mean_corruption_error_but_a_mean_error():
    some = {pair: its for pair, its in counts(lambda *_: 0.25).items() if pair != ("fog", 3)}
    found = corruption_errors(some)
    assert found["mean_corruption_error"] is None
    assert found["mean_error"] == pytest.approx(25)
