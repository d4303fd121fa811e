"""A sample that cannot be decoded, and the checks of what one may cost that every kind of sample shares."""

from __future__ import annotations

from mae_dist.config.limits import DecodeLimits


class DecodeError(Exception):
    """The bytes of a sample are damaged, empty, of an unknown kind, or beyond a limit.

    The message is the reason alone; whoever read the bytes knows their URI.
    """


def check_bytes(size: int, limits: DecodeLimits) -> None:
    """Raise DecodeError if there are no encoded bytes or too many."""
    if not size:
        raise DecodeError("the file is empty")
    if size > limits.bytes:
        raise DecodeError(f"more than {limits.bytes:,} bytes")


def check_pixels(width: int, height: int, limits: DecodeLimits) -> None:
    """Raise DecodeError if a frame of this size is too large."""
    if width * height > limits.pixels:
        raise DecodeError(f"{width}x{height} pixels, the limit is {limits.pixels:,}")
