"""Which frames make up a clip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mae_dist.config.schema import InputConfig
from mae_dist.data.frames import clip_ids, frame_ids, keyframe_ids, timed_ids, uniform_ids
from mae_dist.data.limits import DecodeError

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


def test_windows_of_a_test_lie_from_one_end_of_the_video_to_the_other():
    size, seconds = InputConfig(frames=3, frame_stride=4), np.arange(49) / 25
    windows = [clip_ids(seconds, size, None, clip=clip, clips=5) for clip in range(5)]
    assert [window[0] for window in windows] == [0, 10, 20, 30, 40]
    assert windows[4].tolist() == [40, 44, 48]
    assert clip_ids(seconds, size, None).tolist() == windows[2].tolist()


@given(
    num_frames=st.integers(2, 200),
    frames=st.integers(1, 16),
    fps=st.floats(0.5, 60),
    seed=st.none() | st.integers(0, 100),
)
def test_by_time_each_frame_is_the_one_on_the_screen(num_frames, frames, fps, seed):
    rng = np.random.default_rng(num_frames)
    seconds = np.cumsum(rng.uniform(0.005, 0.2, num_frames)) - 0.005
    seconds -= seconds[0]
    ids = timed_ids(seconds, frames, fps, None if seed is None else np.random.default_rng(seed))
    assert (np.diff(ids) >= 0).all()
    assert ids[0] >= 0
    assert ids[-1] < num_frames
    if seconds[-1] >= (frames - 1) / fps:
        spans = seconds[ids] - seconds[ids[0]]
        assert (np.abs(spans - np.arange(frames) / fps) <= 0.2 + 1e-3).all()


@pytest.mark.parametrize("rate", [25.0, 30.0, 50.0, 30000 / 1001])
def test_by_time_videos_of_any_rate_give_the_same_moments(rate):
    seconds = np.round(np.arange(int(rate * 4)) / rate, 5)  # a clock of 10 microseconds
    ids = timed_ids(seconds, 5, 5.0, None, place=0.0)
    assert seconds[ids] == pytest.approx(np.arange(5) / 5, abs=1 / rate)
    assert timed_ids(np.arange(100) / 25, 5, 5.0, None, place=0.0).tolist() == [0, 5, 10, 15, 20]


def test_by_time_a_video_without_times_is_refused():
    size = InputConfig(frames=4, sample_fps=5.0)
    with pytest.raises(DecodeError, match=r"when its frames are shown, which input\.sample_fps needs"):
        clip_ids(np.full(20, np.nan), size, None)


@given(num_frames=st.integers(1, 300), frames=st.integers(1, 32), seed=st.none() | st.integers(0, 100))
def test_uniformly_every_part_of_the_video_gives_one_frame(num_frames, frames, seed):
    ids = uniform_ids(num_frames, frames, None if seed is None else np.random.default_rng(seed))
    assert ids.dtype == np.int64
    starts = np.arange(frames) * num_frames // frames
    ends = -(-(np.arange(frames) + 1) * num_frames // frames)
    assert ((starts <= ids) & (ids < ends)).all()


def test_uniform_clips_of_a_test_share_no_frame_and_interleave():
    size = InputConfig(frames=4, sampling="uniform")
    clips = [clip_ids(np.arange(40) / 25, size, None, clip=clip, clips=2).tolist() for clip in range(2)]
    assert clips == [[2, 12, 22, 32], [7, 17, 27, 37]]
    assert clip_ids(np.arange(40) / 25, size, None).tolist() == [5, 15, 25, 35]


AVA = InputConfig(frames=16, frame_stride=4)


def test_a_clip_of_a_keyframe_has_it_in_the_middle_drawn_or_not():
    seconds = np.arange(300) / 30
    # The window of 64 frames begins 32 before the keyframe, frame 150; its second frame is the first taken.
    expected = list(range(119, 183, 4))
    for rng in (None, np.random.default_rng(0)):
        assert clip_ids(seconds, AVA, rng, around=5.0).tolist() == expected
    assert clip_ids(seconds, AVA, None, clip=4, clips=5, around=5.0).tolist() == expected


def test_beyond_the_ends_of_the_video_a_keyframes_clip_repeats_the_first_and_last_frame():
    seconds = np.arange(60) / 30
    assert keyframe_ids(seconds, AVA, 0.0).tolist() == [0] * 8 + list(range(1, 32, 4))
    assert keyframe_ids(seconds, AVA, 1.99).tolist() == [*range(28, 59, 4)] + [59] * 8


def test_by_time_a_keyframes_clip_is_as_long_before_it_as_after_it():
    size = InputConfig(frames=5, sample_fps=10.0)
    seconds = np.arange(100) / 25
    assert seconds[keyframe_ids(seconds, size, 2.0)] == pytest.approx(np.arange(1.8, 2.21, 0.1), abs=1 / 25)


@pytest.mark.parametrize(
    ("seconds", "complaint"),
    [
        (np.full(20, np.nan), "does not say when its frames are shown, so its keyframe cannot be found"),
        (np.arange(20) / 10, r"the keyframe is at 902 s, the last frame at 1\.90 s"),
    ],
)
def test_a_video_without_its_keyframe_is_refused(seconds, complaint):
    with pytest.raises(DecodeError, match=complaint):
        clip_ids(seconds, AVA, None, around=902.0)
