"""Models and targets for pixels of any number of channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mae_dist.model.encoder import patch_values
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.operations import forward_multiply_adds
from mae_dist.model.patches import patchify, unpatchify
from mae_dist.model.sizes import num_parameters
from mae_dist.model.targets import TARGETS, normalise, to_pixels
from tests.model.small import SMALL, keep, seeded

CHANNELS = (1, 2, 4, 7)


def statistics(channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.linspace(0.3, 0.6, channels), torch.linspace(0.2, 0.4, channels)


def numpy_target(kind: str, pixels_PC: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """One patch of P places, as the papers define it."""
    values = (pixels_PC - mean) / std
    if kind == "norm_pixel_mae":
        values = (values - values.mean()) / np.sqrt(values.var(ddof=1) + 1e-6)
    if kind == "norm_pixel_videomae":
        values = (pixels_PC - pixels_PC.mean(0)) / (pixels_PC.std(0, ddof=1) + 1e-6)
    return values.reshape(-1)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("kind", ["pixel", "norm_pixel_mae", "norm_pixel_videomae"])
def test_targets_are_those_of_their_channels_and_lead_back_to_pixels(kind, channels):
    mean, std = (values.double() for values in statistics(channels))
    pixels = torch.rand(2, 3, 32 * channels, generator=seeded(0)).double()
    target = TARGETS[kind](pixels, mean, std)
    expected = [
        numpy_target(kind, patch.reshape(-1, channels), mean.numpy(), std.numpy())
        for patch in pixels.flatten(0, 1).numpy()
    ]
    np.testing.assert_allclose(target.flatten(0, 1).numpy(), np.stack(expected), atol=1e-9)
    back = to_pixels(kind, target, pixels, mean, std)
    np.testing.assert_allclose(back.numpy(), pixels.numpy(), atol=1e-5)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_model_takes_and_predicts_patches_of_its_channels(name, channels):
    its, grid = SMALL[name]
    its = replace(its, channels=channels)
    model = MaskedAutoencoder(its, grid, generator=seeded(0))
    height, width = grid.rows * its.patch, grid.columns * its.patch
    clips = torch.rand(2, grid.frames * its.tubelet, height, width, channels, generator=seeded(1))
    patches = patchify(clips, patch=its.patch, tubelet=its.tubelet)
    assert torch.equal(unpatchify(patches, grid, patch=its.patch, tubelet=its.tubelet), clips)
    ids = keep(grid, grid.num_tokens)
    kept, hidden = ids[:, :5], ids[:, 5:]
    seen = torch.stack([sample[its] for sample, its in zip(patches, kept, strict=True)])
    predicted = model(normalise(seen, *statistics(channels)), kept, hidden)
    assert predicted.shape == (2, grid.num_tokens - 5, patch_values(its))
    counted = num_parameters(its, grid)
    made = sum(values.numel() for values in model.parameters())
    assert counted.encoder + counted.decoder == made


def test_operations_count_the_channels():
    its, grid = SMALL["videomae"]
    one, four = (
        forward_multiply_adds(replace(its, channels=channels), grid, num_kept=4) for channels in (1, 4)
    )
    assert four.embedding == 4 * one.embedding
    assert four.total > one.total
