"""Crops inside the picture, and pixels as Pillow resamples them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mae_dist.config.schema import AugmentConfig
from mae_dist.data.augment import crop_box
from mae_dist.data.transforms import (
    FILTERS,
    Box,
    center_box,
    crop_resize,
    flip,
    multi_scale_box,
    random_resized_box,
    spread_box,
)

CROPS = ["random_resized", "multi_scale", "center"]
sides = st.integers(1, 400)


@pytest.mark.parametrize("crop", CROPS)
@given(source=st.tuples(sides, sides), target=st.tuples(sides, sides), seed=st.integers(0, 1000))
def test_a_crop_lies_within_the_picture(crop, source, target, seed):
    box = crop_box(AugmentConfig(crop=crop), *source, *target, np.random.default_rng(seed))
    assert box.height >= 1
    assert box.width >= 1
    assert 0 <= box.top <= source[0] - box.height
    assert 0 <= box.left <= source[1] - box.width


@pytest.mark.parametrize(
    ("source", "target", "box"),
    [
        ((256, 340), (224, 224), Box(0, 42, 256, 256)),
        ((340, 256), (224, 224), Box(42, 0, 256, 256)),
        ((100, 100), (50, 100), Box(25, 0, 50, 100)),
        ((32, 32), (32, 32), Box(0, 0, 32, 32)),
    ],
)
def test_the_centre_crop_is_the_largest_of_the_targets_shape(source, target, box):
    assert center_box(*source, *target) == box


def test_random_resized_crops_have_the_areas_and_aspects_asked_for():
    boxes = [random_resized_box(200, 300, (0.2, 1.0), np.random.default_rng(seed)) for seed in range(1000)]
    areas = np.array([box.height * box.width / 60_000 for box in boxes])
    aspects = np.array([box.width / box.height for box in boxes])
    assert areas.min() > 0.19
    assert areas.max() <= 1
    assert aspects.min() > 0.74
    assert aspects.max() < 1.35
    assert len({(box.top, box.left) for box in boxes}) > 900


def test_a_picture_too_long_for_any_aspect_is_cropped_in_its_middle():
    assert random_resized_box(10, 1000, (0.9, 1.0), np.random.default_rng(0)) == Box(0, 493, 10, 13)


def test_multi_scale_crops_have_the_sides_and_places_of_videomae():
    boxes = [multi_scale_box(256, 340, 224, 224, np.random.default_rng(seed)) for seed in range(3000)]
    # 256 * (1, .875, .75, .66); neighbours in that list may be combined.
    sides = [256, 224, 192, 168]
    pairs = {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}
    assert {(box.height, box.width) for box in boxes} == pairs
    places = {(box.top, box.left) for box in boxes if (box.height, box.width) == (192, 192)}
    row, column = 64 // 4, 148 // 4
    quarters = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (0, 2), (4, 2), (2, 0), (2, 4)]
    quarters += [(1, 1), (1, 3), (3, 1), (3, 3)]
    assert places == {(r * row, c * column) for r, c in quarters}


@pytest.mark.parametrize("interpolation", sorted(FILTERS))
@pytest.mark.parametrize("size", [(16, 24), (50, 60), (30, 40)])
def test_resampling_equals_pillows(interpolation, size):
    clip = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    box = Box(top=5, left=7, height=30, width=40)
    resized = crop_resize(clip, box, *size, interpolation)
    for frame, result in zip(clip, resized, strict=True):
        crop = Image.fromarray(frame).crop((7, 5, 47, 35))
        expected = crop.resize(size[::-1], Image.Resampling[interpolation.upper()])
        assert (result == np.asarray(expected)).all()


@pytest.mark.parametrize("interpolation", sorted(FILTERS))
@pytest.mark.parametrize("size", [(96, 96), (128, 200), (112, 120)])
def test_large_crops_are_resampled_almost_as_by_pillow(interpolation, size):
    clip = np.random.default_rng(0).integers(0, 256, (2, 180, 240, 3), dtype=np.uint8)
    box = Box(top=5, left=7, height=150, width=200)
    resized = crop_resize(clip, box, *size, interpolation)
    for frame, result in zip(clip, resized, strict=True):
        crop = Image.fromarray(frame).crop((7, 5, 207, 155))
        expected = np.asarray(crop.resize(size[::-1], Image.Resampling[interpolation.upper()]))
        difference = np.abs(result.astype(int) - expected)
        assert difference.max() <= 4
        assert difference.mean() < 0.25


@given(source=st.tuples(sides, sides), target=st.tuples(sides, sides), crops=st.integers(1, 5))
def test_crops_of_a_test_are_the_largest_and_reach_from_end_to_end(source, target, crops):
    boxes = [spread_box(*source, *target, crop=crop, crops=crops) for crop in range(crops)]
    whole = center_box(*source, *target)
    assert {(box.height, box.width) for box in boxes} == {(whole.height, whole.width)}
    if crops == 1:
        assert boxes == [whole]
    else:
        assert (boxes[0].top, boxes[0].left) == (0, 0)
        assert boxes[-1].top + boxes[-1].height == source[0]
        assert boxes[-1].left + boxes[-1].width == source[1]


def test_a_flip_mirrors_left_and_right():
    clip = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    assert (flip(clip)[1, 2, 0] == clip[1, 2, 3]).all()
    assert (flip(flip(clip)) == clip).all()


@pytest.mark.parametrize(
    ("source", "box"),
    [
        ((256, 340), Box(16, 58, 224, 224)),
        ((340, 256), Box(58, 16, 224, 224)),
        ((256, 256), Box(16, 16, 224, 224)),
    ],
)
def test_a_smaller_test_crop_lies_in_the_middle(source, box):
    assert spread_box(*source, 224, 224, side=0.875) == box


def test_smaller_test_crops_are_spread_along_the_longer_side():
    boxes = [spread_box(256, 340, 224, 224, crop=crop, crops=3, side=0.875) for crop in range(3)]
    assert boxes == [Box(16, left, 224, 224) for left in (0, 58, 116)]
