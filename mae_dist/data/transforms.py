"""Where a clip is cropped, and the crop as pixels of the wanted size.

A rule chooses a `Box` from the size of the source; `crop_resize` cuts it out of every frame and resamples it
with Pillow's antialiased filters, which is what the reference pipelines do to their images. All frames of a
clip share the box.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

_ASPECTS = (3 / 4, 4 / 3)
_ATTEMPTS = 10
_MULTI_SCALES = (1.0, 0.875, 0.75, 0.66)
# Pixels of a crop from which on its resize is worth importing torch: those of CIFAR are not.
_TORCH_PAYS = 96 * 96


class Box(NamedTuple):
    """A rectangle of source pixels."""

    top: int
    left: int
    height: int
    width: int


def center_box(source_height: int, source_width: int, height: float, width: float) -> Box:
    """The largest centred box with the shape height:width."""
    scale = min(source_height / height, source_width / width)
    box_height, box_width = max(1, round(height * scale)), max(1, round(width * scale))
    return Box((source_height - box_height) // 2, (source_width - box_width) // 2, box_height, box_width)


def spread_box(
    source_height: int,
    source_width: int,
    height: int,
    width: int,
    *,
    crop: int = 0,
    crops: int = 1,
    side: float = 1.0,
) -> Box:
    """Number `crop` of `crops` boxes with the shape height:width, from one end of the source to the other
    along its longer side; a single one lies in the middle. Their sides are those of the largest one times
    `side`."""
    largest = center_box(source_height, source_width, height, width)
    box_height, box_width = (max(1, round(its * side)) for its in (largest.height, largest.width))
    is_tall = source_height - largest.height > source_width - largest.width
    place = 0.5 if crops == 1 else crop / (crops - 1)
    down, right = (place, 0.5) if is_tall else (0.5, place)
    top, left = (source_height - box_height) * down, (source_width - box_width) * right
    return Box(int(top), int(left), box_height, box_width)


def random_resized_box(
    source_height: int, source_width: int, scale: tuple[float, float], rng: np.random.Generator
) -> Box:
    """A box of random area (a fraction in `scale` of the source) and log-uniform aspect in 3/4..4/3.

    The rule of torchvision's RandomResizedCrop, which MAE uses: ten attempts, then the largest centred box
    whose aspect is in range.
    """
    area = source_height * source_width
    for _ in range(_ATTEMPTS):
        wanted = area * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(_ASPECTS[0]), math.log(_ASPECTS[1])))
        width, height = round(math.sqrt(wanted * aspect)), round(math.sqrt(wanted / aspect))
        if 0 < width <= source_width and 0 < height <= source_height:
            top = int(rng.integers(source_height - height + 1))
            left = int(rng.integers(source_width - width + 1))
            return Box(top, left, height, width)
    aspect = min(max(source_width / source_height, _ASPECTS[0]), _ASPECTS[1])
    return center_box(source_height, source_width, 1.0, aspect)


def multi_scale_box(
    source_height: int, source_width: int, height: int, width: int, rng: np.random.Generator
) -> Box:
    """VideoMAE's crop (its GroupMultiScaleCrop with max_distort 1 and fixed offsets).

    Height and width are the short side times 1, .875, .75 or .66, at most one entry of that list apart; a
    side within 3 pixels of the wanted one becomes it. The place is one of 13: corners, centre, the middles of
    the edges, and the centres of the four quadrants, on a grid of quarters of the free room.
    """
    short = min(source_height, source_width)
    sides = [int(short * scale) for scale in _MULTI_SCALES]
    heights = [height if abs(side - height) < 3 and height <= source_height else side for side in sides]
    widths = [width if abs(side - width) < 3 and width <= source_width else side for side in sides]
    pairs = [(h, w) for i, h in enumerate(heights) for j, w in enumerate(widths) if abs(i - j) <= 1]
    box_height, box_width = (max(1, side) for side in pairs[rng.integers(len(pairs))])
    places = [(r, c) for r in (0, 2, 4) for c in (0, 2, 4)] + [(r, c) for r in (1, 3) for c in (1, 3)]
    row, column = places[rng.integers(len(places))]
    top, left = row * ((source_height - box_height) // 4), column * ((source_width - box_width) // 4)
    return Box(top, left, box_height, box_width)


def placed_box(
    source_height: int,
    source_width: int,
    height: int,
    width: int,
    side: tuple[float, float],
    rng: np.random.Generator,
) -> Box:
    """A box with the shape height:width at any place, whose sides are those of the largest one times a draw.

    With side (.875, .875) and a square this is a crop of 224 out of a source resized to a short side of 256.
    """
    largest = center_box(source_height, source_width, height, width)
    factor = rng.uniform(*side)
    box_height, box_width = (max(1, round(its * factor)) for its in (largest.height, largest.width))
    top = int(rng.integers(source_height - box_height + 1))
    return Box(top, int(rng.integers(source_width - box_width + 1)), box_height, box_width)


def fitted(source_height: int, source_width: int, height: int, width: int) -> tuple[int, int]:
    """Height and width of a source, shape kept, that is as large as fits into height x width."""
    scale = min(height / source_height, width / source_width)
    return max(1, min(height, round(source_height * scale))), max(1, min(width, round(source_width * scale)))


def crop_resize(clip_THWC: np.ndarray, box: Box, height: int, width: int, interpolation: str) -> np.ndarray:
    """Cut `box` out of every frame and resample it: uint8 (T, height, width, C).

    Antialiased when it shrinks. Up to 95x95 pixels it equals Pillow's `crop` and `resize` with the filter
    named; larger crops are resampled by torch, which rounds otherwise: by at most 4 of 255 levels and less
    than 0.25 in the mean.
    """
    cut = clip_THWC[:, box.top : box.top + box.height, box.left : box.left + box.width]
    if cut.shape[1:3] == (height, width):
        return cut.copy()  # the caller may change it, and the clip may be cropped again
    if needs_torch(height, width):
        return _resize_by_torch(cut, height, width, interpolation)
    resized = np.empty((len(cut), height, width, cut.shape[-1]), dtype=np.uint8)
    for target, frame in zip(resized, cut, strict=True):
        target[:] = _resize_by_pillow(frame, height, width, FILTERS[interpolation])
    return resized


def needs_torch(height: int, width: int) -> bool:
    """Whether crops of this size are resampled by torch, whose import takes seconds and much memory."""
    return height * width >= _TORCH_PAYS


def _resize_by_pillow(
    frame_HWC: np.ndarray, height: int, width: int, resample: Image.Resampling
) -> np.ndarray:
    def resize(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), resample))

    if frame_HWC.shape[-1] == 3:
        return resize(frame_HWC)
    # One by one: Pillow would take a fourth channel for transparency.
    return np.dstack([resize(frame_HWC[..., channel]) for channel in range(frame_HWC.shape[-1])])


def _resize_by_torch(clip_THWC: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    """As Pillow's `resize`, in a quarter of its time: torch has vector instructions for uint8."""
    import torch  # imported here: see needs_torch

    # A copy in this order of memory; in any other one torch takes its slow path.
    channels_first = torch.from_numpy(np.ascontiguousarray(clip_THWC)).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(
        channels_first, (height, width), mode=interpolation, antialias=True
    )
    return resized.permute(0, 2, 3, 1).numpy()


def flip(clip_THWC: np.ndarray) -> np.ndarray:
    """Mirror every frame left to right."""
    return clip_THWC[:, :, ::-1]
