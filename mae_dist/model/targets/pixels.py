"""Pixels of a patch as what the decoder shall predict, and the way back to them.

Pixels arrive in [0, 1]; `mean` and `std` (float tensors, a value per channel) are those of the input
normalisation. Patch values have the channel fastest (see `patches.py`). Variances are unbiased throughout.

Letters: B samples, H hidden tokens, P values of one patch, R stripes of a patch, S values of one stripe.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

EPSILON = 1e-6

Target = Callable[[Tensor, Tensor, Tensor], Tensor]


def normalise(pixels01_BHP: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(pixels - mean) / std per channel, same shape; the input of the encoder."""
    num_places = pixels01_BHP.shape[-1] // len(mean)
    # Constants as long as the patch: a CPU is four times faster at long rows than at rows of few channels.
    return (pixels01_BHP - mean.repeat(num_places)) / std.repeat(num_places)


def pixel(pixels01_BHP: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The normalised pixels themselves. (VideoMAE's variant in [0, 1] is this one with mean 0 and std 1.)"""
    return normalise(pixels01_BHP, mean, std)


def norm_pixel_mae(pixels01_BHP: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """MAE's target: normalised pixels, normalised again over all values of the patch together."""
    return _standardise_mae(normalise(pixels01_BHP, mean, std))[0]


def norm_pixel_videomae(pixels01_BHP: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """VideoMAE's target: pixels in [0, 1], normalised over each channel of the patch on its own."""
    return _standardise_videomae(pixels01_BHP, len(mean))[0]


TARGETS: dict[str, Target] = {
    "pixel": pixel,
    "norm_pixel_mae": norm_pixel_mae,
    "norm_pixel_videomae": norm_pixel_videomae,
}


def to_pixels(kind: str, prediction_BHP: Tensor, pixels01_BHP: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Pixels in [0, 1] that a prediction of target `kind` stands for, clamped; the way back from `TARGETS`.

    A per-patch-normalised target has lost the patch's own mean and scale; they are taken from the true
    `pixels01_BHP`. A gallery made so shows structure that was predicted, with brightness that was not.
    """
    prediction_BHP = prediction_BHP.float()
    if kind == "norm_pixel_videomae":
        _, centre, scale = _standardise_videomae(pixels01_BHP, len(mean))
        centre, scale = centre.unsqueeze(-2), scale.unsqueeze(-2)
        return (_channels(prediction_BHP, len(mean)) * scale + centre).flatten(-2).clamp(0, 1)
    if kind == "norm_pixel_mae":
        _, centre, scale = _standardise_mae(normalise(pixels01_BHP, mean, std))
        prediction_BHP = prediction_BHP * scale + centre
    return (_channels(prediction_BHP, len(mean)) * std + mean).flatten(-2).clamp(0, 1)


def _channels(values_BHP: Tensor, num_channels: int) -> Tensor:
    return values_BHP.unflatten(-1, (-1, num_channels))


def _standardise_mae(values_BHP: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(values - centre) / scale, and both of them, (B, H, 1).

    MAE adds its epsilon under the root, VideoMAE outside it; each keeps its paper's form. Plain sums, because
    `torch.var_mean` takes five times as long on a CPU.
    """
    centre_BH1 = values_BHP.mean(-1, keepdim=True)
    centred_BHP = values_BHP - centre_BH1
    variance_BH1 = centred_BHP.square().sum(-1, keepdim=True) / (values_BHP.shape[-1] - 1)
    scale_BH1 = (variance_BH1 + EPSILON).sqrt()
    return centred_BHP.div_(scale_BH1), centre_BH1, scale_BH1


def _standardise_videomae(values_BHP: Tensor, num_channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """(values - centre) / scale, and both of them, (B, H, C) for C channels."""
    num_places = values_BHP.shape[-1] // num_channels
    # In stripes of several places, for the same reason as in `normalise`.
    stripe = math.gcd(num_places, 16)

    def by_channel(values_BHRS: Tensor) -> Tensor:
        return values_BHRS.sum(-2).unflatten(-1, (stripe, num_channels)).sum(-2)

    def striped(values_BHC: Tensor) -> Tensor:
        return values_BHC.repeat(1, 1, stripe).unsqueeze(-2)

    values_BHRS = values_BHP.unflatten(-1, (-1, num_channels * stripe))
    centre_BHC = by_channel(values_BHRS) / num_places
    centred_BHRS = values_BHRS - striped(centre_BHC)
    scale_BHC = (by_channel(centred_BHRS.square()) / (num_places - 1)).sqrt() + EPSILON
    return centred_BHRS.div_(striped(scale_BHC)).flatten(-2), centre_BHC, scale_BHC
