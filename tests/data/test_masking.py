"""Which tokens are kept, and how many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mae_dist.config.geometry import Grid
from mae_dist.data.masking import MASKS, keep_ids

IMAGE = Grid(frames=1, rows=14, columns=14)
IMAGE_256 = Grid(frames=1, rows=16, columns=16)
VIDEO = Grid(frames=8, rows=14, columns=14)

KEPT = {
    # ratio: random of 196, 256 and 1568 tokens; tube of 1 and 8 frames of 196 places
    0.50: (98, 128, 784, 98, 784),
    0.60: (78, 102, 627, 79, 632),
    0.70: (58, 76, 470, 59, 472),
    0.75: (49, 64, 392, 49, 392),
    0.80: (39, 51, 313, 40, 320),
    0.85: (29, 38, 235, 30, 240),
    0.90: (19, 25, 156, 20, 160),
    0.95: (9, 12, 78, 10, 80),
}


def kept(
    kind: str, grid: Grid, ratio: float, *, seed: int = 0, epoch: int = 0, sample: int = 0
) -> np.ndarray:
    return keep_ids(kind, grid, ratio, seed=seed, epoch=epoch, sample=sample)


@pytest.mark.parametrize("ratio", sorted(KEPT))
def test_the_number_of_kept_tokens_is_that_of_the_papers_code(ratio):
    cases = [("random", IMAGE), ("random", IMAGE_256), ("random", VIDEO), ("tube", IMAGE), ("tube", VIDEO)]
    assert tuple(len(kept(kind, grid, ratio)) for kind, grid in cases) == KEPT[ratio]


@pytest.mark.parametrize("kind", sorted(MASKS))
@given(
    grid=st.builds(Grid, frames=st.integers(1, 5), rows=st.integers(1, 8), columns=st.integers(1, 8)),
    ratio=st.floats(0.01, 0.99),
    sample=st.integers(0, 2**40),
)
def test_kept_ids_ascend_within_the_grid(kind, grid, ratio, sample):
    ids = kept(kind, grid, ratio, sample=sample)
    assert ids.dtype == np.int64
    assert (np.diff(ids) > 0).all()
    assert all(0 <= i < grid.num_tokens for i in ids)


@pytest.mark.parametrize("kind", sorted(MASKS))
def test_a_mask_depends_on_seed_epoch_and_sample_alone(kind):
    key = {"seed": 1, "epoch": 2, "sample": 3}
    again = kept(kind, VIDEO, 0.9, **key)
    assert (kept(kind, VIDEO, 0.9, **key) == again).all()
    for part in key:
        assert (kept(kind, VIDEO, 0.9, **{**key, part: 9}) != again).any()


def test_a_tube_hides_the_same_places_in_every_frame():
    frames = kept("tube", VIDEO, 0.9).reshape(VIDEO.frames, -1)
    assert (frames % VIDEO.per_frame == frames[0]).all()
    assert (frames // VIDEO.per_frame == np.arange(VIDEO.frames)[:, None]).all()


@pytest.mark.parametrize("kind", sorted(MASKS))
def test_every_place_is_kept_equally_often(kind):
    counts = np.zeros(IMAGE.num_tokens)
    for sample in range(2000):
        counts[kept(kind, IMAGE, 0.75, sample=sample)] += 1
    assert (abs(counts - 500) < 100).all()  # five standard deviations
