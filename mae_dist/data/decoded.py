"""A decoded image or clip, of which only the crop that is asked for becomes pixels."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mae_dist.data.transforms import Box, crop_resize


class Decoded(Protocol):
    """The frames of one sample, all of one size, in whatever form their decoder left them.

    Turning a whole frame into RGB costs more than decoding it, and most of a frame is often cropped away;
    so a decoder hands out this, and the crop decides what is converted.
    """

    @property
    def height(self) -> int:
        """Rows of every frame, upright."""
        ...

    @property
    def width(self) -> int:
        """Columns of every frame, upright."""
        ...

    def crop(self, box: Box, height: int, width: int, interpolation: str) -> np.ndarray:
        """Cut `box` out of every frame and resample it, antialiased: uint8 (T, height, width, 3) RGB.

        May be called again with another box. Raises DecodeError if the pixels turn out to be damaged.
        """
        ...


class Pixels:
    """Frames that are RGB already: uint8 (T, H, W, 3)."""

    def __init__(self, clip_THWC: np.ndarray) -> None:
        self._clip = clip_THWC

    @property
    def height(self) -> int:
        """See Decoded."""
        return self._clip.shape[1]

    @property
    def width(self) -> int:
        """See Decoded."""
        return self._clip.shape[2]

    def crop(self, box: Box, height: int, width: int, interpolation: str) -> np.ndarray:
        """See Decoded; equals Pillow's `crop` and `resize`."""
        return crop_resize(self._clip, box, height, width, interpolation)
