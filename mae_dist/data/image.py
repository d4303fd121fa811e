"""The bytes of an image file as pixels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.decoded import Decoded, Pixels
from mae_dist.data.jpeg import open_jpeg
from mae_dist.data.limits import DecodeError, check_pixels


def open_image(data: bytes, limits: DecodeLimits | None = None) -> Decoded:
    """As `read_image`, for crops of it. Of an ordinary JPEG only the header is read at first."""
    limits = limits or DecodeLimits()
    jpeg = open_jpeg(data, limits, by_pillow=lambda: read_image(data, limits))
    return jpeg or Pixels(read_image(data, limits))


def read_image(data: bytes, limits: DecodeLimits | None = None) -> np.ndarray:
    """Decode any format Pillow knows to uint8 (1, H, W, 3) RGB: an image is a clip of one frame.

    As in the reference pipelines the EXIF orientation is not applied and transparency is dropped; of an
    animation the first picture is taken. 16-bit greys keep their upper 8 bits. Raises DecodeError.
    """
    with _opened(data, limits or DecodeLimits()) as image:
        return np.asarray(_as_rgb(image), dtype=np.uint8)[None]


def probe_image(data: bytes, limits: DecodeLimits | None = None) -> tuple[str, int, int]:
    """Format ("jpeg", "png", ...), width and height, from the header alone. Raises DecodeError."""
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


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16-bit greys to white instead of scaling them.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
