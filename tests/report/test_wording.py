"""Numbers as people read them."""

import math

import pytest

from mae_dist.report import wording


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (4.25, "4.25 s"),
        (59.99, "60 s"),
        (250, "4 min 10 s"),
        (9000, "2 h 30 min"),
        (200000, "2 d 7 h"),
        (3600, "1 h"),
    ],
)
def test_durations_have_two_parts_at_most(seconds, words):
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    "write", [wording.count, wording.decimal, wording.signed, wording.percent, wording.rate]
)
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_not_known_is_a_dash(write, value):
    assert write(value) == "—"


def test_numbers_carry_a_real_minus_and_separators():
    assert wording.signed(-1.25, 2) == "−1.25"
    assert wording.signed(0.5) == "+0.5"
    assert wording.count(1234567) == "1,234,567"
    assert wording.about(192_348_800 / 12_800) == "15,000"
    assert wording.percent(0.031) == "3.1 %"


def test_numbers_below_each_other_line_up():
    assert wording.places_for([0.012, 0.05, None]) == 4
    assert wording.places_for([120.0, 3000.0]) == 0


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("linear_probe", "Linear probe"),
        ("feature_probe", "Linear probe on kept features"),
        ("knn", "kNN"),
        ("mae", "MAE"),
        ("finetune.imagenet_c", "Fine-tuning on imagenet_c"),
    ],
)
def test_a_protocol_is_named_as_people_write_it(protocol, words):
    assert wording.label(protocol) == words
