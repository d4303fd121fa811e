"""The encoded bytes of one sample as the pixels of its views.

    bytes -> the frames of one window -> per view: crop, flip, ... -> uint8 (K, T, H, W, 3)

A pure function that knows neither files nor processes; `decoder.py` runs it where it can be killed.
Letters: K views of the sample, T frames of a view.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mae_dist.config.limits import DecodeLimits
from mae_dist.config.schema import AugmentConfig, InputConfig, ViewsConfig
from mae_dist.data import keys
from mae_dist.data.augment import augment, prepare
from mae_dist.data.decoded import Decoded
from mae_dist.data.frames import clip_ids
from mae_dist.data.image import open_image
from mae_dist.data.limits import check_bytes
from mae_dist.data.transforms import spread_box
from mae_dist.data.video import VIDEO_DECODERS, prepare_decoder


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewSpec:
    """What, beside the sample, its views depend on."""

    seed: int
    input: InputConfig
    augment: AugmentConfig
    test: ViewsConfig | None = None
    """None: training views, drawn and augmented; else nothing is drawn."""
    decoder: str = "pyav"
    """What decodes videos, a key of VIDEO_DECODERS."""
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    def prepare(self) -> None:
        """Load what decoding will need, so that no sample is charged for it.

        Raises ValueError or ImportError if something of it does not exist.
        """
        prepare(self.augment, self.input)
        prepare_decoder(self.decoder)


class Request(NamedTuple):
    """One sample to decode."""

    data: bytes
    media: str
    """"image" or "video"."""
    sample: int
    epochs: tuple[int, ...]
    """One per view: with (seed, sample) the key of its draws. In a test only their number counts."""


def decode_views(request: Request, spec: ViewSpec, views_KTHWC: np.ndarray) -> None:
    """Fill `views_KTHWC`, uint8, with one view per entry of `request.epochs`; raises DecodeError.

    In training the frames are drawn once, with the key of the first view, because they are decoded once; each
    view is cropped, flipped and so on with the draws of its own key. In a test the views are those of
    `spec.test`, in their order.
    """
    check_bytes(len(request.data), spec.limits)
    decoded = _open(request, spec)
    if spec.test is None:
        for view, epoch in zip(views_KTHWC, request.epochs, strict=True):
            # An image stands still: its one frame becomes all frames of the view.
            view[:] = augment(
                decoded, spec.augment, spec.input, seed=spec.seed, epoch=epoch, sample=request.sample
            )
    else:
        _look(decoded, spec, spec.test, views_KTHWC)


def _open(request: Request, spec: ViewSpec) -> Decoded:
    """The image; or the frames of the clip that training draws, or of all clips of a test in a row."""
    if request.media != "video":
        return open_image(request.data, spec.limits)

    def choose(seconds_N: np.ndarray) -> np.ndarray:
        if spec.test is None:
            rng = keys.rng(spec.seed, request.epochs[0], request.sample, "frames")
            return clip_ids(seconds_N, spec.input, rng)
        clips = spec.test.clips
        return np.concatenate(
            [clip_ids(seconds_N, spec.input, None, clip=clip, clips=clips) for clip in range(clips)]
        )

    return VIDEO_DECODERS[spec.decoder](request.data, choose, spec.limits)


def _look(decoded: Decoded, spec: ViewSpec, test: ViewsConfig, views_KTHWC: np.ndarray) -> None:
    height, width = spec.input.height, spec.input.width
    views = views_KTHWC.reshape(test.clips, test.crops, *views_KTHWC.shape[1:])
    for crop in range(test.crops):
        box = spread_box(decoded.height, decoded.width, height, width, crop=crop, crops=test.crops)
        pixels = decoded.crop(box, height, width, spec.augment.interpolation)
        views[:, crop] = (
            pixels.reshape(-1, *pixels.shape)
            if len(pixels) == 1
            else pixels.reshape(test.clips, -1, *pixels.shape[1:])
        )
