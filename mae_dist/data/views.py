"""The encoded bytes of one sample as the pixels of its views.

    bytes -> the frames of one window -> per view: crop, flip, ... -> uint8 (K, T, H, W, 3)

A pure function that knows neither files nor processes; `decoder.py` runs it where it can be killed.
Letters: K views of the sample, T frames of a view.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mae_dist.config.schema import AugmentConfig, InputConfig
from mae_dist.data import keys
from mae_dist.data.augment import augment, prepare
from mae_dist.data.frames import frame_ids
from mae_dist.data.image import open_image
from mae_dist.data.limits import DecodeLimits
from mae_dist.data.video import open_clip


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewSpec:
    """What, beside the sample, its views depend on."""

    seed: int
    input: InputConfig
    augment: AugmentConfig
    train: bool
    """False: nothing is drawn; the frames in the middle, the largest centred crop."""
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    def prepare(self) -> None:
        """Load what decoding will need, so that no sample is charged for it."""
        prepare(self.augment, self.input)


class Request(NamedTuple):
    """One sample to decode."""

    data: bytes
    media: str
    """"image" or "video"."""
    sample: int
    epochs: tuple[int, ...]
    """One per view: with (seed, sample) the key of its draws."""


def decode_views(request: Request, spec: ViewSpec, views_KTHWC: np.ndarray) -> None:
    """Fill `views_KTHWC`, uint8, with one view per entry of `request.epochs`; raises DecodeError.

    The frames are drawn once, with the key of the first view, because they are decoded once; each view is
    cropped, flipped and so on with the draws of its own key.
    """
    size, sample, first = spec.input, request.sample, request.epochs[0]

    def choose(seconds: np.ndarray) -> np.ndarray:
        rng = keys.rng(spec.seed, first, sample, "frames") if spec.train else None
        return frame_ids(len(seconds), size.frames, size.frame_stride, rng)

    spec.limits.check_bytes(len(request.data))
    if request.media == "video":
        decoded = open_clip(request.data, choose, spec.limits)
    else:
        decoded = open_image(request.data, spec.limits)
    for view, epoch in zip(views_KTHWC, request.epochs, strict=True):
        # An image stands still: its one frame becomes all frames of the view.
        view[:] = augment(
            decoded, spec.augment, size, train=spec.train, seed=spec.seed, epoch=epoch, sample=sample
        )
