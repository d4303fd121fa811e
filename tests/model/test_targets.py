"""Targets against ten-line numpy versions of the papers' definitions."""

from __future__ import annotations

from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from mae_dist.config.targets import PIXELS, TargetConfig
from mae_dist.model.targets import LOSSES, TARGETS, normalise, reconstruction_loss, to_pixels
from mae_dist.model.targets.maker import MADE
from tests.model.small import IMAGENET_MEAN, IMAGENET_STD, channel, seeded

MEAN, STD = channel(IMAGENET_MEAN), channel(IMAGENET_STD)


def random_pixels(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=seeded(0))


def numpy_pixel(pixels):
    return ((pixels.reshape(-1, 3) - IMAGENET_MEAN) / IMAGENET_STD).reshape(-1)


def numpy_norm_pixel_mae(pixels):
    values = numpy_pixel(pixels)
    variance = ((values - values.mean()) ** 2).sum() / (len(values) - 1)
    return (values - values.mean()) / np.sqrt(variance + 1e-6)


def numpy_norm_pixel_videomae(pixels):
    out = np.zeros_like(pixels)
    for c in range(3):
        values = pixels[c::3]
        variance = ((values - values.mean()) ** 2).sum() / (len(values) - 1)
        out[c::3] = (values - values.mean()) / (np.sqrt(variance) + 1e-6)
    return out


NUMPY = {
    "pixel": numpy_pixel,
    "norm_pixel_mae": numpy_norm_pixel_mae,
    "norm_pixel_videomae": numpy_norm_pixel_videomae,
}


@pytest.mark.parametrize("kind", sorted(TARGETS))
@pytest.mark.parametrize("num_values", [48, 768, 1536])
def test_targets_are_what_the_papers_define(kind, num_values):
    # In float64, so that a nearly flat patch shows where epsilon is added, not how float32 rounds the mean.
    pixels = random_pixels(2, 3, num_values).double()
    pixels[0, 0] = pixels[0, 0] * 1e-5 + 0.5
    target = TARGETS[kind](pixels, MEAN.double(), STD.double())
    expected = np.stack([[NUMPY[kind](p) for p in sample] for sample in pixels.numpy()])
    np.testing.assert_allclose(target.numpy(), expected, rtol=1e-9, atol=2e-7)


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_float32_is_enough_for_patches_that_are_not_flat(kind):
    pixels = random_pixels(2, 3, 768)
    expected = TARGETS[kind](pixels.double(), MEAN.double(), STD.double())
    torch.testing.assert_close(TARGETS[kind](pixels, MEAN, STD).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_a_constant_patch_has_a_finite_target(kind):
    assert TARGETS[kind](torch.full((1, 1, 48), 0.3), MEAN, STD).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "num_values", "loss"),
    [
        ("norm_pixel_mae", 768, 767 / 768),
        ("norm_pixel_mae", 588, 587 / 588),
        ("norm_pixel_videomae", 1536, 511 / 512),
    ],
)
def test_predicting_zero_for_a_normalised_patch_costs_n_minus_one_over_n(kind, num_values, loss):
    target = TARGETS[kind](random_pixels(4, 50, num_values), MEAN, STD)
    assert reconstruction_loss(torch.zeros_like(target), target).item() == pytest.approx(loss, abs=1e-4)


def test_the_loss_is_the_mean_over_hidden_tokens_of_the_mean_over_values_in_float32():
    target = TARGETS["pixel"](random_pixels(2, 5, 48), MEAN, STD)
    prediction = torch.randn(2, 5, 48, generator=seeded(1)).bfloat16()
    per_token = ((prediction.double() - target.double()) ** 2).mean(-1)
    loss = reconstruction_loss(prediction, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(per_token.mean().item(), rel=1e-6)


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_the_true_target_turns_back_into_the_true_pixels(kind):
    pixels = random_pixels(2, 3, 48)
    back = to_pixels(kind, TARGETS[kind](pixels, MEAN, STD), pixels, MEAN, STD)
    torch.testing.assert_close(back, pixels, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_pixels_of_a_wild_prediction_stay_between_zero_and_one(kind):
    pixels = random_pixels(1, 2, 48)
    back = to_pixels(kind, 100 * torch.randn(1, 2, 48, generator=seeded(2)), pixels, MEAN, STD)
    assert back.min() == 0
    assert back.max() == 1


def test_normalising_subtracts_the_mean_of_each_channel_and_divides_by_its_deviation():
    red_green_blue = torch.tensor([1.0, 0.5, 0.0]).repeat(4)[None, None]
    expected = torch.tensor([(1 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0 - 0.406) / 0.225]).repeat(4)
    torch.testing.assert_close(normalise(red_green_blue, MEAN, STD)[0, 0], expected)


def test_a_recipe_can_name_exactly_the_targets_that_exist():
    assert set(get_args(get_type_hints(TargetConfig)["kind"])) == {*TARGETS, *MADE, "hog"}
    assert set(PIXELS) == set(TARGETS)
    assert set(get_args(get_type_hints(TargetConfig)["loss"])) == set(LOSSES)


def test_each_loss_is_its_formula_over_what_counts():
    """Two lines of numpy each."""
    generator = torch.Generator().manual_seed(0)
    prediction, target = (2 * torch.randn(2, 5, 12, generator=generator) for _ in range(2))
    counted = torch.tensor([[True, False, True, True, False], [False, True, True, False, False]])
    difference = abs(prediction - target).numpy()
    smooth = np.where(difference < 1, difference**2 / 2, difference - 0.5)
    for kind, values in (("mse", difference**2), ("l1", difference), ("smooth_l1", smooth)):
        whole = reconstruction_loss(prediction, target, kind=kind).item()
        assert whole == pytest.approx(values.mean(), rel=1e-6)
        part = reconstruction_loss(prediction, target, counted, kind=kind).item()
        assert part == pytest.approx(values[counted.numpy()].mean(), rel=1e-6)
