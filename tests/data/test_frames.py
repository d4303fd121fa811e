"""Which frames make up a clip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mae_dist.data.frames import frame_ids

sizes = {"num_frames": st.integers(1, 400), "frames": st.integers(1, 32), "stride": st.integers(1, 8)}


@given(**sizes, seed=st.none() | st.integers(0, 100))
def test_frames_lie_in_the_video_one_stride_apart_until_its_end(num_frames, frames, stride, seed):
    ids = frame_ids(num_frames, frames, stride, None if seed is None else np.random.default_rng(seed))
    assert ids.dtype == np.int64
    assert len(ids) == frames
    assert ids[0] >= 0
    assert (ids == np.minimum(ids[0] + stride * np.arange(frames), num_frames - 1)).all()


def test_a_random_window_starts_wherever_it_fits_whole():
    starts = {int(frame_ids(70, 16, 4, np.random.default_rng(seed))[0]) for seed in range(200)}
    assert starts == set(range(70 - 64 + 1))


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
def test_a_short_video_repeats_its_last_frame(rng):
    assert frame_ids(5, 4, 2, rng).tolist() == [0, 2, 4, 4]


def test_without_randomness_the_clip_lies_in_the_middle():
    assert frame_ids(100, 3, 4, None).tolist() == [45, 49, 53]
    assert frame_ids(1, 1, 1, None).tolist() == [0]
