"""The discrete VAE: one code per patch, a file that holds all it takes, and what it costs."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
import torch
from safetensors.torch import save
from torch.utils.flop_counter import FlopCounterMode

from mae_dist.model.tokenizer import (
    Tokenizer,
    TokenizerCard,
    as_images,
    from_bytes,
    load_codes,
    multiply_adds,
    strides,
    to_bytes,
    tokenizer_of,
)
from mae_dist.model.weights.header import WeightsError
from tests.model.small import IMAGENET_MEAN, IMAGENET_STD, channel, seeded

CARD = TokenizerCard(vocabulary=11, width=8, blocks=1, patch=4, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def small() -> Tokenizer:
    torch.manual_seed(0)
    return tokenizer_of(CARD)


@pytest.mark.parametrize("patch", [1, 2, 3, 4, 8, 14, 16])
def test_every_patch_has_one_code_and_the_image_comes_back_in_its_size(patch):
    tokenizer = Tokenizer(vocabulary=5, width=4, blocks=1, patch=patch)
    images = torch.randn(2, 3, 2 * patch, 3 * patch)
    codes = tokenizer.codes(images)
    assert codes.shape == (2, 2, 3)
    assert codes.max() < 5
    restored, logits = tokenizer(images, temperature=0.5)
    assert restored.shape == images.shape
    assert logits.shape == (2, 5, 2, 3)
    halvings, stride = strides(patch)
    assert stride * 2**halvings == patch


def test_codes_of_clips_are_those_of_their_frames_in_the_order_of_tokens():
    codes = load_codes(to_bytes(small().state_dict(), CARD))
    frames = torch.randint(0, 256, (2, 4, 8, 12, 3), dtype=torch.uint8, generator=seeded(0))
    found = codes(frames, tubelet=2)
    assert found.shape == (2, 2 * 2 * 3, 2)
    mean, std = channel(IMAGENET_MEAN), channel(IMAGENET_STD)
    for sample, slot, row, column, frame in [(0, 0, 0, 0, 0), (1, 1, 1, 2, 0), (1, 0, 1, 1, 1)]:
        image = as_images(frames[sample : sample + 1, 2 * slot + frame : 2 * slot + frame + 1], mean, std)
        assert found[sample, slot * 6 + row * 3 + column, frame] == small().codes(image)[0, row, column]


def test_images_are_pixels_less_the_mean_over_the_deviation_by_channel():
    frames = torch.randint(0, 256, (1, 1, 4, 4, 3), dtype=torch.uint8, generator=seeded(0))
    image = as_images(frames, channel(IMAGENET_MEAN), channel(IMAGENET_STD))[0]
    for number in range(3):
        expected = (frames[0, 0, :, :, number] / 255 - IMAGENET_MEAN[number]) / IMAGENET_STD[number]
        torch.testing.assert_close(image[number], expected)


def test_a_file_gives_the_same_codes_and_its_weights_stay_as_they_are():
    tokenizer, card = from_bytes(to_bytes(small().state_dict(), CARD))
    assert card == CARD
    images = torch.randn(2, 3, 16, 16, generator=seeded(0))
    assert torch.equal(tokenizer.codes(images), small().codes(images))
    held = load_codes(to_bytes(small().state_dict(), CARD))
    assert not any(parameter.requires_grad for parameter in held.parameters())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (save({"a": torch.zeros(1)}), "a file of weights, but not an export of mae_dist"),
        (
            to_bytes(small().state_dict(), dataclasses.replace(CARD, width=9)),
            "the weights of this tokenizer do not fit its card: .*size mismatch",
        ),
        (
            to_bytes({"other": torch.zeros(1)}, CARD),
            "do not fit its card: .*Missing key.*encoder.0.weight.*Unexpected key.*other",
        ),
        (pickle.dumps(print, protocol=2), "a pickled file that"),
    ],
)
def test_other_files_are_refused_and_none_is_run(data, message):
    with pytest.raises(WeightsError, match=message):
        from_bytes(data)


@pytest.mark.parametrize("patch", [4, 14, 16])
def test_operations_are_those_that_torch_counts(patch):
    card = dataclasses.replace(CARD, vocabulary=32, blocks=2, patch=patch)
    with FlopCounterMode(display=False) as counter:
        tokenizer_of(card)(torch.randn(1, 3, 2 * patch, 3 * patch), temperature=1.0)
    assert counter.get_total_flops() == 2 * multiply_adds(card, places=6)
