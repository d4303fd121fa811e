"""Augmentation: keyed by the sample, alike in every frame, still uint8."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from mae_dist.config.schema import AugmentConfig, InputConfig
from mae_dist.data.augment import augment
from mae_dist.data.decoded import Pixels

SIZE = InputConfig(frames=3, height=24, width=32)
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
STILL = np.stack([PICTURE] * 3)

CONFIGS = {
    "random_resized": AugmentConfig(),
    "multi_scale": AugmentConfig(crop="multi_scale", interpolation="bilinear"),
    "anywhere": AugmentConfig(crop="anywhere", side=(0.5, 1.0)),
    "center": AugmentConfig(crop="center"),
    "color_jitter": AugmentConfig(color_jitter=(20.0, 0.1, 0.1)),
    "rand_augment": AugmentConfig(rand_augment="rand-m9-n4-mstd0.5-inc1"),
    "erasing": AugmentConfig(erasing=1.0),
}


def run(config: AugmentConfig, clip: np.ndarray = STILL, **key: int) -> np.ndarray:
    return augment(Pixels(clip), config, SIZE, **{"seed": 0, "epoch": 0, "sample": 0, **key})


@pytest.mark.parametrize("name", CONFIGS)
def test_every_frame_is_treated_alike(name):
    for sample in range(20):
        clip = run(CONFIGS[name], sample=sample)
        assert clip.dtype == np.uint8
        assert clip.shape == (3, 24, 32, 3)
        assert clip.flags["C_CONTIGUOUS"]
        assert (clip == clip[0]).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_pixels_depend_on_seed_epoch_and_sample_alone(name):
    random.seed(1)
    np.random.seed(1)
    once = [run(CONFIGS[name], sample=sample) for sample in range(8)]
    random.seed(2)
    np.random.seed(2)
    state = random.getstate()
    assert (np.stack(once) == np.stack([run(CONFIGS[name], sample=sample) for sample in range(8)])).all()
    assert random.getstate() == state
    assert len({clip.tobytes() for clip in once}) > 1


@pytest.mark.parametrize("key", ["seed", "epoch", "sample"])
def test_each_part_of_the_key_counts(key):
    assert len({run(CONFIGS["random_resized"], **{key: value}).tobytes() for value in range(5)}) == 5


def test_half_of_the_samples_are_mirrored_unless_flipping_is_off():
    crop = AugmentConfig(crop="center")
    plain = run(AugmentConfig(crop="center", flip=False))
    flipped = [run(crop, sample=sample) for sample in range(400)]
    mirrored = sum((clip == plain[:, :, ::-1]).all() for clip in flipped)
    assert mirrored + sum((clip == plain).all() for clip in flipped) == 400
    assert 150 < mirrored < 250


def test_erasing_overwrites_one_rectangle_of_the_stated_size():
    plain = run(AugmentConfig(crop="center", flip=False))
    for sample in range(50):
        clip = run(AugmentConfig(crop="center", flip=False, erasing=1.0), sample=sample)
        rows, columns = np.nonzero((clip[0] != plain[0]).any(-1))
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert 0.015 < box / (24 * 32) < 0.36
        assert len(rows) > 0.95 * box


def test_rand_augment_changes_most_samples():
    plain = run(AugmentConfig(crop="center", flip=False))
    config = AugmentConfig(crop="center", flip=False, rand_augment="rand-m9-mstd0.5-inc1")
    changed = sum((run(config, sample=sample) != plain).any() for sample in range(100))
    assert 50 < changed < 95  # each of two operations is applied with probability one half


def test_a_rand_augment_string_that_timm_does_not_know_is_named():
    with pytest.raises(ValueError, match=r"like 'rand-m9-mstd0\.5-inc1', got 'strong'"):
        run(AugmentConfig(rand_augment="strong"))


def test_colors_are_shifted_within_their_bounds_and_hue_goes_round():
    plain = AugmentConfig(crop="center", flip=False)
    greys = np.full((1, 24, 32, 3), 128, np.uint8)
    shifted = {run(replace(plain, color_jitter=(0.0, 0.0, 0.1)), greys, sample=n).max() for n in range(50)}
    assert 128 - 26 <= min(shifted) < 110
    assert 146 < max(shifted) <= 128 + 26
    red = np.zeros((1, 24, 32, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    turned = np.stack([run(replace(plain, color_jitter=(20.0, 0.0, 0.0)), red, sample=n) for n in range(50)])
    assert (turned[..., 0] == 255).all()
    # Towards yellow and towards magenta; 20 of 360 degrees are a third of the way.
    assert 60 < turned[..., 1].max() < 100
    assert 60 < turned[..., 2].max() < 100
    assert not (turned[..., 1].astype(bool) & turned[..., 2].astype(bool)).any()
