"""The encoded bytes of one sample as the pixels of its views.

    bytes -> the frames of one window -> per view: crop, flip, ... -> uint8 (K, T, H, W, C)

A pure function that knows neither files nor processes; `decoder.py` runs it where it can be killed.
Letters: K views of the sample, T frames of a view, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mae_dist.config.limits import DecodeLimits
from mae_dist.config.schema import AugmentConfig, InputConfig, ViewsConfig
from mae_dist.data import keys
from mae_dist.data.augment import augment, placement, prepare
from mae_dist.data.boxes import FRAMING_BYTES, Framing
from mae_dist.data.decoded import Decoded, Grey
from mae_dist.data.frames import clip_ids
from mae_dist.data.image import open_image
from mae_dist.data.limits import DecodeError, check_bytes
from mae_dist.data.transforms import Box, fitted, spread_box
from mae_dist.data.video import VIDEO_DECODERS, prepare_decoder


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewSpec:
    """What, beside the sample, its views depend on."""

    seed: int
    input: InputConfig
    augment: AugmentConfig
    test: ViewsConfig | None = None
    """None: training views, drawn and augmented; else nothing is drawn."""
    whole: bool = False
    """A test's frames are shown whole, as large as they fit into the upper left of the input; the rest is
    black."""
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
    time: float | None = None
    """Of a keyframe, in seconds: its clips have it in their middle."""


def decode_views(request: Request, spec: ViewSpec, views_KTHWC: np.ndarray) -> None:
    """Fill `views_KTHWC`, uint8, with one view per entry of `request.epochs`; raises DecodeError.

    In training the frames are drawn once, with the key of the first view, because they are decoded once; each
    view is cropped, flipped and so on with the draws of its own key. In a test the views are those of
    `spec.test`, in their order.
    """
    _fill(_open(request, spec), request, spec, views_KTHWC)


def decode_framed(request: Request, spec: ViewSpec, written_KV: np.ndarray) -> None:
    """As `decode_views`, with a Framing behind the pixels of each view; `split_framed` takes them apart."""
    decoded = _open(request, spec)
    _fill(decoded, request, spec, split_framed(written_KV, spec.input)[0])
    for written_V, framing in zip(written_KV, _framings(decoded, request, spec), strict=True):
        written_V[-FRAMING_BYTES:] = np.array(framing).view(np.uint8)


def framed_bytes(size: InputConfig) -> int:
    """V, the bytes of one view with its framing."""
    return size.frames * size.height * size.width * size.channels + FRAMING_BYTES


def split_framed(written_KV: np.ndarray, size: InputConfig) -> tuple[np.ndarray, list[Framing]]:
    """The views (K, T, H, W, C), in the same memory, and how each is framed."""
    pixels = written_KV[:, :-FRAMING_BYTES]
    views = pixels.reshape(-1, size.frames, size.height, size.width, size.channels)
    numbers = np.ascontiguousarray(written_KV[:, -FRAMING_BYTES:]).view(np.float64)
    return views, [Framing(*row) for row in numbers.tolist()]


def _fill(decoded: Decoded, request: Request, spec: ViewSpec, views_KTHWC: np.ndarray) -> None:
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
    check_bytes(len(request.data), spec.limits)
    if request.media != "video":
        return open_image(request.data, spec.limits, channels=spec.input.channels)

    def choose(seconds_N: np.ndarray) -> np.ndarray:
        if spec.test is None:
            rng = keys.rng(spec.seed, request.epochs[0], request.sample, "frames")
            return clip_ids(seconds_N, spec.input, rng, around=request.time)
        clips = spec.test.clips
        return np.concatenate(
            [
                clip_ids(seconds_N, spec.input, None, clip=clip, clips=clips, around=request.time)
                for clip in range(clips)
            ]
        )

    if spec.input.channels not in (1, 3):
        raise DecodeError(f"a video has 3 channels, and input.channels is {spec.input.channels}")
    decoded = VIDEO_DECODERS[spec.decoder](request.data, choose, spec.limits)
    return Grey(decoded) if spec.input.channels == 1 else decoded


def _look(decoded: Decoded, spec: ViewSpec, test: ViewsConfig, views_KTHWC: np.ndarray) -> None:
    views = views_KTHWC.reshape(test.clips, test.crops, *views_KTHWC.shape[1:])
    for crop in range(test.crops):
        box, height, width = _look_at(decoded, spec, test, crop)
        pixels = decoded.crop(box, height, width, spec.augment.interpolation)
        if spec.whole:
            views[:, crop] = 0
        views[:, crop, :, :height, :width] = (
            pixels.reshape(-1, *pixels.shape)
            if len(pixels) == 1
            else pixels.reshape(test.clips, -1, *pixels.shape[1:])
        )


def _look_at(decoded: Decoded, spec: ViewSpec, test: ViewsConfig, crop: int) -> tuple[Box, int, int]:
    """The box of the source that one crop of a test shows, and the height and width it gets."""
    size, source = spec.input, (decoded.height, decoded.width)
    if spec.whole:
        return Box(0, 0, *source), *fitted(*source, size.height, size.width)
    box = spread_box(*source, size.height, size.width, crop=crop, crops=test.crops, side=test.side)
    return box, size.height, size.width


def _framings(decoded: Decoded, request: Request, spec: ViewSpec) -> list[Framing]:
    """How the views of `_fill` are framed."""
    size, source = spec.input, (decoded.height, decoded.width)
    framings = []
    for number, epoch in enumerate(request.epochs):
        if spec.test is None:
            box, is_flipped = placement(
                spec.augment, *source, size, seed=spec.seed, epoch=epoch, sample=request.sample
            )
            framing = Framing.of(box, *source, size.height, size.width, is_flipped=is_flipped)
        else:
            box, height, width = _look_at(decoded, spec, spec.test, number % spec.test.crops)
            framing = Framing.of(box, *source, height, width)
        framings.append(framing)
    return framings
