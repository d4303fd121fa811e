"""The views of a sample: drawn in training, spread over the video and the picture in a test."""

from __future__ import annotations

import numpy as np
import pytest

from mae_dist.config.schema import AugmentConfig, InputConfig, ViewsConfig
from mae_dist.data.frames import clip_ids
from mae_dist.data.transforms import crop_resize, spread_box
from mae_dist.data.views import Request, ViewSpec, decode_views

SIZE = InputConfig(frames=4, frame_stride=2, height=32, width=32)
STRONG = AugmentConfig(rand_augment="rand-m9", erasing=1.0)


def decode(data: bytes, media: str, spec: ViewSpec, *epochs: int, sample: int = 0) -> np.ndarray:
    views = np.zeros((len(epochs), spec.input.frames, spec.input.height, spec.input.width, 3), np.uint8)
    decode_views(Request(data, media, sample, epochs), spec, views)
    return views


def test_views_of_one_decode_share_their_frames_and_nothing_else(make_video, decode_all):
    data = make_video(height=32, width=32)  # as large as the input: the centred crop is the frame itself
    spec = ViewSpec(seed=3, input=SIZE, augment=AugmentConfig(crop="center", flip=False))
    views = decode(data, "video", spec, 4, 5, 6)
    every_frame = decode_all(data)
    assert (views == views[0]).all()
    assert any((views[0] == every_frame[start : start + 8 : 2]).all() for start in range(33))
    drawn = decode(data, "video", ViewSpec(seed=3, input=SIZE, augment=AugmentConfig()), 4, 5, 6)
    assert len({view.tobytes() for view in drawn}) == 3


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (5, 3), (2, 3), (3, 1)])
@pytest.mark.parametrize("sampling", ["dense", "uniform"])
def test_a_test_looks_at_every_clip_in_every_crop(clips, crops, sampling, make_video, decode_all):
    data = make_video(num_frames=30)
    size = InputConfig(frames=4, frame_stride=2, sampling=sampling, height=32, width=32)
    spec = ViewSpec(seed=0, input=size, augment=STRONG, test=ViewsConfig(clips=clips, crops=crops))
    views = decode(data, "video", spec, *range(clips * crops))
    every_frame, seconds = decode_all(data), np.arange(30) / 10
    for number, view in enumerate(views):
        clip, crop = divmod(number, crops)
        box = spread_box(48, 64, 32, 32, crop=crop, crops=crops)
        frames = every_frame[clip_ids(seconds, size, None, clip=clip, clips=clips)]
        assert (view == crop_resize(frames, box, 32, 32, "bicubic")).all()
    assert len({view.tobytes() for view in views}) == clips * crops


def test_a_test_draws_nothing(make_video):
    spec = ViewSpec(seed=0, input=SIZE, augment=STRONG, test=ViewsConfig())
    data = make_video()
    assert len({decode(data, "video", spec, 0, sample=sample).tobytes() for sample in range(3)}) == 1


def test_an_image_stands_still_in_training_and_has_only_crops_in_a_test(make_image):
    data = make_image()
    view = decode(data, "image", ViewSpec(seed=0, input=SIZE, augment=AugmentConfig()), 0)[0]
    assert (view == view[0]).all()
    spec = ViewSpec(seed=0, input=SIZE, augment=AugmentConfig(), test=ViewsConfig(clips=2, crops=3))
    views = decode(data, "image", spec, *range(6))
    assert (views[:3] == views[3:]).all()
    assert (views == views[:, :1]).all()
    assert len({view.tobytes() for view in views}) == 3


def test_the_views_of_a_keyframe_are_around_its_second(make_video, decode_all):
    data = make_video(height=32, width=32)  # 40 frames, 10 per second
    plain = AugmentConfig(crop="center", flip=False)
    for test in (None, ViewsConfig()):
        spec = ViewSpec(seed=3, input=SIZE, augment=plain, test=test)
        views = np.zeros((1, 4, 32, 32, 3), np.uint8)
        decode_views(Request(data, "video", 0, (4,), 2.0), spec, views)
        assert (views[0] == decode_all(data)[[16, 18, 20, 22]]).all()
