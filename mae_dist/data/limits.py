"""What decoding one sample may cost, and the error for a sample that cannot be decoded."""

from __future__ import annotations

from dataclasses import dataclass


class DecodeError(Exception):
    """The bytes of a sample are damaged, empty, of an unknown kind, or beyond a limit.

    The message is the reason alone; whoever read the bytes knows their URI.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeLimits:
    """Bounds on one sample, so that a hostile or broken file costs one sample and not the machine.

    None of them depends on the load of the machine: a sample is given up for what it asks for, never because
    others were faster. Real data stays far below all of them.
    """

    bytes: int = 1 << 30
    """Encoded bytes; no more than one byte beyond is ever read."""
    pixels: int = 64_000_000
    """Height * width of one frame or image."""
    clip_pixels: int = 1_000_000_000
    """Pixels of all the different frames of one clip together (3 bytes each)."""
    frames: int = 1_000_000
    """Frames of one video."""
    memory: int = 4 << 30
    """Bytes that decoding may take beside the encoded and the finished sample."""
    seconds: float = 10.0
    """CPU time. Videos look at it between two packets; a decoder that goes on for a quarter longer, inside
    one call of a codec, is killed."""

    def check_bytes(self, size: int) -> None:
        """Raise DecodeError if there are no encoded bytes or too many."""
        if not size:
            raise DecodeError("the file is empty")
        if size > self.bytes:
            raise DecodeError(f"more than {self.bytes:,} bytes")

    def check_pixels(self, width: int, height: int) -> None:
        """Raise DecodeError if a frame of this size is too large."""
        if width * height > self.pixels:
            raise DecodeError(f"{width}x{height} pixels, the limit is {self.pixels:,}")
