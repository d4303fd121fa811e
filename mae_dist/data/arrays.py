"""Arrays in .npy files as images of any number of channels: bands, depths, spectra."""

from __future__ import annotations

import io

import numpy as np

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.limits import DecodeError, check_pixels

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def is_array(data: bytes) -> bool:
    """Whether these are the bytes of a .npy file."""
    return data.startswith(np.lib.format.MAGIC_PREFIX)


def probe_array(data: bytes, limits: DecodeLimits | None = None) -> tuple[int, int, int]:
    """Height, width and channels of a uint8 array (H, W) or (H, W, C), by its header. Raises DecodeError."""
    file = io.BytesIO(data)
    try:
        shape, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError) as error:
        raise DecodeError(f"not a readable array: {error}") from error
    if dtype != np.uint8 or len(shape) not in (2, 3) or 0 in shape:
        raise DecodeError(f"an array of {dtype} {shape}; expected uint8 (height, width, channels)")
    height, width, channels = (*shape, 1)[:3]
    check_pixels(width * channels, height, limits or DecodeLimits())
    return height, width, channels


def read_array(data: bytes, limits: DecodeLimits | None = None) -> np.ndarray:
    """The array as uint8 (1, H, W, C); no object in it is made. Raises DecodeError."""
    shape = probe_array(data, limits)
    try:
        return np.load(io.BytesIO(data), allow_pickle=False).reshape(1, *shape)
    except (ValueError, EOFError) as error:
        raise DecodeError(f"not a readable array: {error}") from error
