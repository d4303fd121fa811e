"""What the decoder shall predict, the loss on it, and the way back to pixels.

Pixels arrive in [0, 1]; `mean` and `std` (float tensors of 3) are those of the input normalisation. Patch
values have the channel fastest (see `patches.py`). Variances are unbiased throughout.

Letters: B samples, H hidden tokens, P values of one patch, Q = P / 3 places of one patch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-6

Target = Callable[[Tensor, Tensor, Tensor], Tensor]


def normalise(pixels01_BHP: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(pixels - mean) / std per channel, same shape; the input of the encoder."""
    return ((_channels(pixels01_BHP) - mean) / std).flatten(-2)


def pixel(pixels01_BHP: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The normalised pixels themselves. (VideoMAE's variant in [0, 1] is this one with mean 0 and std 1.)"""
    return normalise(pixels01_BHP, mean, std)


def norm_pixel_mae(pixels01_BHP: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """MAE's target: normalised pixels, normalised again over all values of the patch together."""
    values = normalise(pixels01_BHP, mean, std)
    centre, scale = _statistics_mae(values)
    return (values - centre) / scale


def norm_pixel_videomae(pixels01_BHP: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """VideoMAE's target: pixels in [0, 1], normalised over each channel of the patch on its own."""
    values = _channels(pixels01_BHP)
    centre, scale = _statistics_videomae(values)
    return ((values - centre) / scale).flatten(-2)


TARGETS: dict[str, Target] = {
    "pixel": pixel,
    "norm_pixel_mae": norm_pixel_mae,
    "norm_pixel_videomae": norm_pixel_videomae,
}


def reconstruction_loss(prediction_BHP: Tensor, target_BHP: Tensor) -> Tensor:
    """Mean square error over all values of all hidden tokens, in float32: a scalar."""
    return F.mse_loss(prediction_BHP.float(), target_BHP.float())


def to_pixels(kind: str, prediction_BHP: Tensor, pixels01_BHP: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Pixels in [0, 1] that a prediction of target `kind` stands for, clamped; the way back from `TARGETS`.

    A per-patch-normalised target has lost the patch's own mean and scale; they are taken from the true
    `pixels01_BHP`. A gallery made so shows structure that was predicted, with brightness that was not.
    """
    prediction_BHP = prediction_BHP.float()
    if kind == "norm_pixel_videomae":
        centre, scale = _statistics_videomae(_channels(pixels01_BHP))
        return (_channels(prediction_BHP) * scale + centre).flatten(-2).clamp(0, 1)
    if kind == "norm_pixel_mae":
        centre, scale = _statistics_mae(normalise(pixels01_BHP, mean, std))
        prediction_BHP = prediction_BHP * scale + centre
    return (_channels(prediction_BHP) * std + mean).flatten(-2).clamp(0, 1)


def _channels(values_BHP: Tensor) -> Tensor:
    return values_BHP.unflatten(-1, (-1, 3))


def _statistics_mae(values_BHP: Tensor) -> tuple[Tensor, Tensor]:
    # MAE adds its epsilon under the root, VideoMAE outside it; each keeps its paper's form.
    variance, centre = torch.var_mean(values_BHP, dim=-1, keepdim=True)
    return centre, (variance + EPSILON).sqrt()


def _statistics_videomae(values_BHQC: Tensor) -> tuple[Tensor, Tensor]:
    variance, centre = torch.var_mean(values_BHQC, dim=-2, keepdim=True)
    return centre, variance.sqrt() + EPSILON
