"""A decoded image or clip, of which only the crop that is asked for becomes pixels."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from PIL import Image

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
        """Cut `box` out of every frame and resample it, antialiased: uint8 (T, height, width, C), mostly RGB.

        May be called again with another box. Raises DecodeError if the pixels turn out to be damaged.
        """
        ...


class Pixels:
    """Frames that are decoded already: uint8 (T, H, W, C)."""

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


class Grey:
    """The brightness of frames in RGB, one channel: Pillow's L, 0.299 R + 0.587 G + 0.114 B (ITU-R 601-2)."""

    def __init__(self, colour: Decoded) -> None:
        self._colour = colour

    @property
    def height(self) -> int:
        """See Decoded."""
        return self._colour.height

    @property
    def width(self) -> int:
        """See Decoded."""
        return self._colour.width

    def crop(self, box: Box, height: int, width: int, interpolation: str) -> np.ndarray:
        """See Decoded; (T, height, width, 1)."""
        clip = self._colour.crop(box, height, width, interpolation)
        # All frames as one tall picture.
        grey = Image.fromarray(clip.reshape(-1, width, 3)).convert("L")
        return np.array(grey).reshape(*clip.shape[:3], 1)
