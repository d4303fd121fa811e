"""An image encoder as one for clips: what is exact of it, and what becomes of the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mae_dist.config.geometry import Grid
from mae_dist.model.encoder import Encoder
from mae_dist.model.inflation import INFLATIONS, inflate_encoder
from mae_dist.model.patches import patchify
from tests.model.small import SMALL_MAE, SMALL_VIDEOMAE, randomised, seeded

IMAGE_GRID, CLIP_GRID = Grid(frames=1, rows=2, columns=3), Grid(frames=2, rows=2, columns=3)


def encoders(tubelet: int, how: str, **changes) -> tuple[Encoder, Encoder]:
    """A random image encoder, and the one for clips that starts from it."""
    image = randomised(Encoder(SMALL_MAE, IMAGE_GRID), 1).eval()
    wanted = replace(SMALL_VIDEOMAE, tubelet=tubelet, **changes)
    video = Encoder(wanted, CLIP_GRID).eval()
    video.load_state_dict(inflate_encoder(image.state_dict(), wanted, how))
    return image, video


@pytest.mark.parametrize("how", sorted(INFLATIONS))
@pytest.mark.parametrize("tubelet", [2, 3, 4])
def test_a_clip_that_stands_still_is_embedded_as_its_image_is(how, tubelet):
    image, video = encoders(tubelet, how)
    pixels = torch.rand(2, 1, 8, 12, 3, generator=seeded(0))
    still = pixels.expand(-1, 2 * tubelet, -1, -1, -1)
    embedded = image.patch_embedding(patchify(pixels, patch=4, tubelet=1))
    of_clip = video.patch_embedding(patchify(still, patch=4, tubelet=tubelet))
    torch.testing.assert_close(of_clip, embedded.repeat(1, 2, 1))


def test_mean_hears_every_frame_alike_and_center_the_middle_one_alone():
    clips = torch.rand(1, 4, 4, 4, 3, generator=seeded(0))
    for how, heard in [("mean", [0, 1, 2, 3]), ("center", [2])]:
        _, video = encoders(4, how)
        before = video.patch_embedding(patchify(clips, patch=4, tubelet=4))
        for frame in range(4):
            changed = clips.clone()
            changed[:, frame] = 1 - changed[:, frame]
            after = video.patch_embedding(patchify(changed, patch=4, tubelet=4))
            assert ((before - after).abs().max() > 1e-3) == (frame in heard)


@pytest.mark.parametrize("how", sorted(INFLATIONS))
def test_without_a_bias_of_the_keys_the_blocks_say_the_same(how):
    """The same tokens through the blocks of both: softmax does not see what is the same for all keys."""
    image, video = encoders(2, how)
    assert image.state_dict()["blocks.0.attention.qkv.bias"].chunk(3)[1].abs().max() > 0.01
    tokens = torch.randn(2, 7, 48, generator=seeded(0))
    torch.testing.assert_close(video.norm(video.blocks(tokens)), image.norm(image.blocks(tokens)))


def test_what_both_have_is_kept():
    changes = {"class_token": True, "key_bias": True}
    image, video = encoders(2, "mean", **changes)
    assert torch.equal(image.class_token, video.class_token)
    assert video.state_dict().keys() == image.state_dict().keys()


def test_the_weights_given_stay_as_they_were():
    image = Encoder(SMALL_MAE, IMAGE_GRID)
    given = image.state_dict()
    before = {name: values.clone() for name, values in given.items()}
    inflate_encoder(given, SMALL_VIDEOMAE, "mean")
    assert given.keys() == before.keys()
    assert all(torch.equal(given[name], before[name]) for name in before)
