"""A crop of decoded frames is the same, to the bit, as a crop of the whole frames in RGB."""

from __future__ import annotations

import numpy as np
import pytest

from mae_dist.data.transforms import Box, crop_resize
from mae_dist.data.video import open_clip
from tests.data.video_kinds import VIDEOS

IDS = np.array([3, 5, 7, 7])


def boxes(height: int, width: int) -> list[Box]:
    """The whole frame, single pixels in its corners, and boxes anywhere."""
    rng = np.random.default_rng(0)
    found = [Box(0, 0, height, width), Box(0, 0, 1, 1), Box(height - 1, width - 1, 1, 1)]
    for _ in range(10):
        rows, columns = np.sort(rng.integers(height + 1, size=2)), np.sort(rng.integers(width + 1, size=2))
        top, left = min(rows[0], height - 1), min(columns[0], width - 1)
        found.append(Box(int(top), int(left), int(max(1, np.ptp(rows))), int(max(1, np.ptp(columns)))))
    return found


@pytest.mark.parametrize("name", VIDEOS)
def test_a_crop_equals_that_of_the_frames_in_rgb_whatever_was_cropped_before(name, make_video, decode_all):
    odd = name.startswith("odd")
    data = make_video(**VIDEOS[name] | {"height": 123 if odd else 124, "width": 171 if odd else 172})
    expected = decode_all(data)[IDS]
    for first in boxes(*expected.shape[1:3]):
        clip = open_clip(data, lambda seconds: IDS)
        assert (clip.height, clip.width) == expected.shape[1:3]
        for box in (first, Box(30, 50, 64, 80)):
            cut = expected[:, box.top : box.top + box.height, box.left : box.left + box.width]
            assert (clip.crop(box, box.height, box.width, "bicubic") == cut).all()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_crop_of_a_turned_picture_is_the_one_that_a_viewer_sees(turns, make_video, decode_all, turn_mp4):
    data = make_video(height=124, width=172)
    expected = np.rot90(decode_all(data)[IDS], turns, axes=(1, 2))
    clip = open_clip(turn_mp4(data, turns), lambda seconds: IDS)
    assert (clip.height, clip.width) == expected.shape[1:3]
    for box in boxes(*expected.shape[1:3]):
        cut = expected[:, box.top : box.top + box.height, box.left : box.left + box.width]
        assert (clip.crop(box, box.height, box.width, "bicubic") == cut).all()


def test_a_crop_is_resampled_as_the_frames_in_rgb_would_be(make_video, decode_all):
    data = make_video(height=124, width=172)
    clip, box = open_clip(data, lambda seconds: IDS), Box(11, 13, 90, 101)
    for size in ((32, 48), (112, 100)):
        expected = crop_resize(decode_all(data)[IDS], box, *size, "bicubic")
        assert (clip.crop(box, *size, "bicubic") == expected).all()
