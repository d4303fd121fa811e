"""Draws that belong to a sample."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mae_dist.data import keys


def test_a_key_names_one_stream():
    drawn = [keys.rng(*key).random() for key in [(0, 1, 2, "crop"), (0, 1, 2, "crop")]]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    "other", [(1, 1, 2, "crop"), (0, 2, 2, "crop"), (0, 1, 3, "crop"), (0, 1, 2, "mask")]
)
def test_another_key_names_another_stream(other):
    assert keys.rng(0, 1, 2, "crop").random() != keys.rng(*other).random()


def test_seeded_globals_repeat_inside_and_leave_no_trace_outside():
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.random()
    random.seed(3)
    np.random.seed(3)
    inside = []
    for _ in range(2):
        with keys.seeded_globals(11):
            inside.append((random.random(), np.random.random()))
    with pytest.raises(RuntimeError, match="stop"), keys.seeded_globals(11):
        raise RuntimeError("stop")
    assert inside[0] == inside[1]
    assert (random.random(), np.random.random()) == expected
