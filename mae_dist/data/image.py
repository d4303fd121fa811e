"""The bytes of an image file, or of an array, as pixels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.arrays import is_array, probe_array, read_array
from mae_dist.data.decoded import Decoded, Grey, Pixels
from mae_dist.data.jpeg import open_jpeg
from mae_dist.data.limits import DecodeError, check_pixels

MODES = {3: "RGB", 4: "RGBA"}
"""Pillow's name for so many channels. Grey is made of a crop of the colours; see Grey."""


def open_image(data: bytes, limits: DecodeLimits | None = None, *, channels: int = 3) -> Decoded:
    """As `read_image`, for crops of it. Of an ordinary JPEG only the header is read at first."""
    limits = limits or DecodeLimits()
    if is_array(data):
        _, _, found = probe_array(data, limits)
        if found != channels:
            raise DecodeError(f"an array of {found} channels, and input.channels is {channels}")
        return Pixels(read_array(data, limits))
    if channels == 1:
        return Grey(open_image(data, limits))
    if channels not in MODES:
        raise DecodeError(f"an image has no {channels} channels, which input.channels asks for; an array has")
    jpeg = None
    if channels == 3:
        jpeg = open_jpeg(data, limits, by_pillow=lambda: read_image(data, limits))
    return jpeg or Pixels(read_image(data, limits, mode=MODES[channels]))


def read_image(data: bytes, limits: DecodeLimits | None = None, *, mode: str = "RGB") -> np.ndarray:
    """Decode any format Pillow knows to uint8 (1, H, W, 3) RGB: an image is a clip of one frame.

    As in the reference pipelines the EXIF orientation is not applied and transparency is dropped, unless it
    is the fourth channel of mode RGBA; of an animation the first picture is taken. 16-bit greys keep their
    upper 8 bits. An array (.npy) is taken as it is, (1, H, W, C). Raises DecodeError.
    """
    if is_array(data):
        return read_array(data, limits)
    with _opened(data, limits or DecodeLimits()) as image:
        return np.asarray(_as_mode(image, mode), dtype=np.uint8)[None]


def probe_image(data: bytes, limits: DecodeLimits | None = None) -> tuple[str, int, int]:
    """Format ("jpeg", "png", ...), width and height, from the header alone. Raises DecodeError."""
    if is_array(data):
        height, width, _ = probe_array(data, limits)
        return "npy", width, height
    with _opened(data, limits or DecodeLimits()) as image:
        return (image.format or "").lower(), *image.size


@contextmanager
def _opened(data: bytes, limits: DecodeLimits) -> Iterator[Image.Image]:
    """Pillow's image, of which only the header has been read; what goes wrong with it is a DecodeError."""
    if not data:
        raise DecodeError("the file is empty")
    try:
        with warnings.catch_warnings():
            # Pillow's own limit is a warning at 89 megapixels; ours is checked below, from the header.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                check_pixels(*image.size, limits)
                yield image
    except (DecodeError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        # Its text holds the address of an object, and a reason must be the same each time.
        raise DecodeError("not a readable image: of no known format") from error
    except Exception as error:
        # Pillow's parsers raise a dozen different types on hostile bytes; all of them mean the same here.
        raise DecodeError(f"not a readable image: {error}") from error


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16-bit greys to white instead of scaling them.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert(mode)
    return image.convert(mode)
