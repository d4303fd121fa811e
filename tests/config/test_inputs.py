"""What a recipe says of the channels of a pixel, and of patches of several frames."""

from __future__ import annotations

import pytest

from mae_dist.config.load import load
from mae_dist.model.encoder import patch_values
from tests.config.small import mistakes

NEEDED = ("data.catalog=images",)
GREY = ("input.channels=1", "input.mean=[0.5]", "input.std=[0.25]")


def problems(recipe: str, *settings: str) -> list[str]:
    return [line.strip() for line in mistakes(recipe, *NEEDED, *settings).splitlines()[1:]]


def test_patches_have_the_channels_of_the_input():
    config = load("pretrain/in1k", [*NEEDED, *GREY, "evaluations={}"])
    assert patch_values(config.architecture) == 16 * 16
    assert patch_values(load("pretrain/in1k", list(NEEDED)).architecture) == 16 * 16 * 3


def test_patches_may_span_other_numbers_of_frames():
    config = load("pretrain/k400", [*NEEDED, "model.tubelet=4"])
    assert config.grid.frames == 4
    assert patch_values(config.architecture) == 4 * 16 * 16 * 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            ["input.channels=1"],
            "input.mean: must have one value for each of input.channels = 1, got [0.485, 0.456, 0.406]",
        ),
        (
            ["input.std=[0.2, 0.2]"],
            "input.std: must have one value for each of input.channels = 3, got [0.2, 0.2]",
        ),
        (
            [*GREY, "augment.color_jitter=[9, 0.1, 0.1]"],
            "augment.color_jitter: is for 3 channels, and input.channels is 1; null",
        ),
        (
            GREY,
            "evaluations.finetune.augment.rand_augment: is for 3 channels, and input.channels is 1; null",
        ),
        (
            ["input.frames=4"],
            "input.frames: 4, but mae_base tells no frames apart; 1 would do, or a videomae_* size",
        ),
        (["input.channels=0"], "input.channels: must be greater than 0, got 0"),
    ],
)
def test_what_does_not_go_together_is_named(settings, expected):
    found = problems("pretrain/in1k", *settings)
    assert any(line.startswith(expected) for line in found), found
