"""What decoding one sample may cost: the section `data.limits` of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mae_dist.config.quantities import Positive


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeLimits:
    """Bounds on one sample, so that a hostile or broken file costs one sample and not the machine.

    None of them depends on the load of the machine: a sample is given up for what it asks for, never because
    others were faster. Real data stays far below all of them.
    """

    bytes: Positive = 1 << 30
    """Encoded bytes of one sample."""
    pixels: Positive = 64_000_000
    """Height * width of one frame or image."""
    clip_pixels: Positive = 1_000_000_000
    """Pixels of all the different frames of one clip together (3 bytes each)."""
    frames: Positive = 1_000_000
    """Frames of one video."""
    memory: Positive = 4 << 30
    """Bytes that decoding may take beside the encoded and the finished sample."""
    seconds: Annotated[float, Field(gt=0)] = 10.0
    """CPU time. Videos look at it between two packets; a decoder that goes on for a quarter longer, inside
    one call of a codec, is killed."""
