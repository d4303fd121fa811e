"""JPEG files, of which a crop decodes no more than it needs.

    box small  -> rows below it are left out -> libjpeg-turbo -> an antialiased resize of uint8
    box large  -> the same at 1/2, 1/4 or 1/8 (in the DCT)    -> Pillow's resize, for fractions of pixels

Everything unusual (CMYK, no end marker, whatever libjpeg-turbo refuses) is left to Pillow, so that all that
Pillow reads stays readable. What is done depends on the bytes, the box and the size alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import simplejpeg
from PIL import Image

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.decoded import Decoded, Pixels
from mae_dist.data.limits import check_pixels
from mae_dist.data.transforms import FILTERS, Box, crop_resize

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_COLORS = ("YCbCr", "Gray", "RGB")
_FULL_SIZE = 1
_SCALES = (8, 4, 2)
# Below this, two scales of libjpeg could give the same number of rows, and simplejpeg is asked by rows.
_SMALLEST_SCALED = 16
# Where colours have fewer columns than rows (4:2:2), libjpeg cannot scale them less than the brightness.
_SCALABLE = ("444", "420", "Gray")
# Frame headers (SOF0, 1, 2: baseline, extended, progressive) whose height may be changed, and what may come
# before: Huffman and quantisation tables, restart interval, comment, and the application's own segments.
_FRAME_MARKERS = (0xC0, 0xC1, 0xC2)
_OTHER_MARKERS = (0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))


class Jpeg:
    """A JPEG file whose header has been read; see Decoded.

    A crop that is not scaled in the DCT differs from Pillow's `crop` and `resize` by at most 4 of 255 levels
    and by less than 0.25 in the mean (torch rounds otherwise). One that is, because the box is at least twice
    as large as wanted in both directions, differs by about 1 level in the mean, as bicubic differs from
    bilinear; by 2 where lines are a few pixels wide.
    """

    def __init__(
        self, data: bytes, height: int, width: int, *, scalable: bool, by_pillow: Callable[[], np.ndarray]
    ) -> None:
        self._data = data
        self._height = height
        self._width = width
        self._scalable = scalable
        self._by_pillow = by_pillow
        self._unusual: Pixels | None = None
        # Scale -> the upper part of the image at that scale, uint8 (rows, W, 3), and the row of the full size
        # above which it is right.
        self._upper_parts: dict[int, tuple[np.ndarray, int]] = {}

    @property
    def height(self) -> int:
        """See Decoded."""
        return self._height

    @property
    def width(self) -> int:
        """See Decoded."""
        return self._width

    def crop(self, box: Box, height: int, width: int, interpolation: str) -> np.ndarray:
        """See Decoded."""
        scale = _scale(box, height, width) if self._scalable else _FULL_SIZE
        if self._unusual is None:
            try:
                rows = self._decode(scale, box.top + box.height)
            except ValueError:
                self._unusual = Pixels(self._by_pillow())
            else:
                return _resize(rows, scale, box, height, width, interpolation)[None]
        return self._unusual.crop(box, height, width, interpolation)

    def _decode(self, scale: int, bottom: int) -> np.ndarray:
        """At least the rows above row `bottom` of the full size, at 1/scale. Raises ValueError.

        The first crop decodes what it needs; if a second one needs more, there may be many, and all is
        decoded. The pixels are the same either way.
        """
        part, known = self._upper_parts.get(scale, (None, 0))
        if part is not None and known >= bottom:
            return part
        # Two rows more, because the colours of a row are smoothed with those of the next one.
        height = self._height if known else min(self._height, bottom + 2 * scale)
        data = self._data if height == self._height else _with_height(self._data, self._height, height)
        if data is None:
            data, height = self._data, self._height
        wanted = (-(-height // scale), -(-self._width // scale))
        # Not strict, as Pillow is not: libjpeg warns of the rows left out, and of harmless oddities.
        part = simplejpeg.decode_jpeg(
            data, "RGB", min_height=wanted[0], min_width=wanted[1], min_factor=scale, strict=False
        )
        if part.shape[:2] != wanted:
            raise ValueError(f"asked for {wanted} pixels at 1/{scale}, got {part.shape[:2]}")
        self._upper_parts[scale] = part, height if height == self._height else bottom
        return part


def open_jpeg(data: bytes, limits: DecodeLimits, by_pillow: Callable[[], np.ndarray]) -> Decoded | None:
    """The file, if it is an ordinary JPEG; None: it may be anything else.

    `by_pillow` decodes it to uint8 (1, H, W, 3) RGB and is called if its pixels turn out to be beyond
    libjpeg-turbo. Raises DecodeError if the header claims more pixels than `limits` allow.
    """
    # Without an end marker a file may be cut off, which Pillow refuses and libjpeg-turbo fills with grey.
    if not (data.startswith(_START) and data.endswith(_END)):
        return None
    try:
        rows, columns, colors, sampling = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    height, width = int(rows), int(columns)
    check_pixels(width, height, limits)
    if colors not in _COLORS:
        return None
    return Jpeg(data, height, width, scalable=sampling in _SCALABLE, by_pillow=by_pillow)


def _scale(box: Box, height: int, width: int) -> int:
    """The largest of 8, 4 and 2 that leaves the box as large as wanted, else 1."""
    if min(height, width) >= _SMALLEST_SCALED:
        for scale in _SCALES:
            if box.height >= scale * height and box.width >= scale * width:
                return scale
    return _FULL_SIZE


def _resize(
    rows: np.ndarray, scale: int, box: Box, height: int, width: int, interpolation: str
) -> np.ndarray:
    """`box`, in pixels of the full size, out of `rows` at 1/scale: uint8 (height, width, 3)."""
    bottom, right = box.top + box.height, box.left + box.width
    if scale != _FULL_SIZE:
        top, left = box.top // scale, box.left // scale
        cut = np.ascontiguousarray(rows[top : -(-bottom // scale), left : -(-right // scale)])
        exact = (box.left / scale - left, box.top / scale - top, right / scale - left, bottom / scale - top)
        return np.asarray(Image.fromarray(cut).resize((width, height), FILTERS[interpolation], exact))

    return crop_resize(rows[None], box, height, width, interpolation)[0]


def _with_height(data: bytes, old: int, new: int) -> bytes | None:
    """The file with another height in its header, so that decoding ends after `new` rows; None: not found.

    The decoder passes over the data of the rows below without decoding them; a random crop of 20% to 100% of
    the area ends above an eighth of the rows on average.
    """
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in _FRAME_MARKERS:
            place = slice(at + 5, at + 7)  # marker 2, length 2, precision 1
            if data[place] != old.to_bytes(2, "big"):
                return None
            return b"".join((data[: place.start], new.to_bytes(2, "big"), data[place.stop :]))
        if data[at + 1] not in _OTHER_MARKERS:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
