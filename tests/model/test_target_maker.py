"""The target of a micro-batch: which frames and tokens it is made of."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mae_dist.config.targets import TargetConfig
from mae_dist.model.patches import gather_tokens, hidden_ids, patchify
from mae_dist.model.targets import TARGETS, TargetMaker, code_loss, oriented_gradients
from tests.model.small import IMAGENET_MEAN, IMAGENET_STD, SMALL, channel, clips, keep, seeded

ARCHITECTURE, GRID = SMALL["videomae"]
MEAN, STD = channel(IMAGENET_MEAN), channel(IMAGENET_STD)
FRAMES = GRID.frames * ARCHITECTURE.tubelet


def made(target: TargetConfig, decoded: torch.Tensor, predict: torch.Tensor | None = None):
    """(the target, the ids of its tokens, which of them count)."""
    maker = TargetMaker(target, ARCHITECTURE, GRID)
    kept = keep(GRID, 8)
    seen = patchify(maker.seen(decoded), patch=4, tubelet=2)
    ids, counted = maker.places(kept, predict, seen.shape[1])
    return maker(decoded, seen, ids, MEAN, STD), ids, counted


def test_of_the_same_frames_all_hidden_tokens_are_predicted():
    decoded = clips(ARCHITECTURE, GRID)
    target, ids, counted = made(TargetConfig(kind="pixel"), decoded)
    hidden = hidden_ids(keep(GRID, 8), GRID.num_tokens)
    assert torch.equal(ids, hidden)
    assert counted is None
    pixels = gather_tokens(patchify(decoded, patch=4, tubelet=2), hidden).float() / 255
    torch.testing.assert_close(target, TARGETS["pixel"](pixels, MEAN, STD))


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_of_twice_as_many_frames_every_other_one_is_seen_and_all_are_predicted(kind):
    decoded = torch.randint(0, 256, (2, 2 * FRAMES, 16, 16, 3), dtype=torch.uint8, generator=seeded(1))
    maker = TargetMaker(TargetConfig(kind=kind, frames="double"), ARCHITECTURE, GRID)
    assert torch.equal(maker.seen(decoded), decoded[:, [0, 2, 4, 6]])
    target, ids, counted = made(TargetConfig(kind=kind, frames="double"), decoded)
    assert counted is None
    assert target.shape == (2, GRID.num_tokens - 8, 4 * 4 * 4 * 3)
    slot, place = divmod(int(ids[1, 5]), GRID.per_frame)
    row, column = 4 * (place // GRID.columns), 4 * (place % GRID.columns)
    cube = decoded[1, 4 * slot : 4 * slot + 4, row : row + 4, column : column + 4].reshape(1, 1, -1)
    torch.testing.assert_close(target[1, 5], TARGETS[kind](cube.float() / 255, MEAN, STD)[0, 0])


def test_of_the_frame_in_the_middle_its_own_tokens_are_predicted_and_hidden_ones_count():
    decoded = clips(ARCHITECTURE, GRID)
    target, ids, counted = made(TargetConfig(kind="pixel", frames="centre"), decoded)
    # Frame 2 of 4 is the first of the second slot.
    assert ids.tolist() == [list(range(16, 32))] * 2
    assert counted is not None
    assert counted.tolist() == [
        [number not in kept for number in range(16, 32)] for kept in keep(GRID, 8).tolist()
    ]
    patches = patchify(decoded[:, 2:3], patch=4, tubelet=1).float() / 255
    torch.testing.assert_close(target, TARGETS["pixel"](patches, MEAN, STD))


@pytest.mark.parametrize("frames", ["same", "double", "centre"])
@pytest.mark.parametrize("kind", ["pixel", "hog"])
def test_a_target_has_as_many_values_as_the_config_says(kind, frames):
    architecture = dataclasses.replace(ARCHITECTURE, patch=8)
    target = TargetConfig(kind=kind, frames=frames)
    maker = TargetMaker(target, architecture, GRID)
    decoded = torch.zeros(1, (2 if frames == "double" else 1) * FRAMES, 32, 32, 3, dtype=torch.uint8)
    seen = patchify(maker.seen(decoded), patch=8, tubelet=2)
    ids, _ = maker.places(keep(GRID, 8, num_samples=1), None, seen.shape[1])
    values = maker(decoded, seen, ids, MEAN, STD).shape[-1]
    assert values == (target.num_values(architecture) or 2 * 8 * 8 * 3)


def test_gradients_are_those_of_the_whole_picture_around_a_patch():
    architecture = dataclasses.replace(ARCHITECTURE, patch=8)
    decoded = torch.randint(0, 256, (2, FRAMES, 32, 32, 3), dtype=torch.uint8, generator=seeded(1))
    maker = TargetMaker(TargetConfig(kind="hog"), architecture, GRID)
    ids = torch.tensor([[3, 20], [31, 0]])
    target = maker(decoded, patchify(decoded, patch=8, tubelet=2), ids, MEAN, STD)
    whole = oriented_gradients(decoded, patch=8, tubelet=2)
    assert torch.equal(target, torch.stack([whole[0, [3, 20]], whole[1, [31, 0]]]))


def test_the_loss_on_codes_is_the_cross_entropy_of_each_frame_over_what_counts():
    logits = torch.randn(2, 3, 2 * 5, generator=seeded(0))
    codes = torch.randint(0, 5, (2, 3, 2), generator=seeded(1))
    counted = torch.tensor([[True, False, True], [False, True, False]])
    losses = np.zeros((2, 3, 2))
    for at in np.ndindex(2, 3, 2):
        scores = np.exp(logits.numpy()[at[0], at[1]].reshape(2, 5)[at[2]].astype(float))
        losses[at] = -np.log(scores[codes[at]] / scores.sum())
    assert code_loss(logits, codes).item() == pytest.approx(losses.mean(), rel=1e-6)
    expected = losses.mean(-1)[counted.numpy()].mean()
    assert code_loss(logits, codes, counted).item() == pytest.approx(expected, rel=1e-6)
