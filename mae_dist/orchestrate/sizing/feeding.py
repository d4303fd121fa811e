"""CPUs and bandwidth that keep up with a training: reading, decoding and handing on of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

HEADROOM = 1.2
"""Decoding is planned so much faster than training, so that it runs ahead and catches up after a fault."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """What it takes to make training pixels of one stored sample."""

    seconds: float
    """CPU time of one thread, from the encoded bytes to one crop."""
    further_seconds: float
    """Of another crop of the same decode (train.repeats)."""
    sample_bytes: float
    """As stored."""
    source: str

    def seconds_per_crop(self, repeats: int) -> float:
        """CPU time of one of `repeats` crops."""
        return (self.seconds + (repeats - 1) * self.further_seconds) / repeats


VIDEO = Decoding(
    seconds=0.0669,
    further_seconds=0.0012,
    sample_bytes=1.35e6,
    source="16 frames of a real H.264 video of 340x256 with a keyframe every 235 frames, 10 s in 1.35 MB: "
    "benchmarks/decode/2026-11-21.md, benchmarks/prepare/2026-11-21.md",
)
IMAGE = Decoding(
    seconds=0.000987,
    further_seconds=0.00037,
    sample_bytes=50.6e3,
    source="a JPEG of 500x375 in 50.6 KB: benchmarks/jpeg/2026-11-21.md",
)
TRANSPORT = 3.74e-3 / (16 * 224 * 224 * 3)
"""CPU seconds per byte of pixels from a decode task to the training loop, blocks of 16 clips:
benchmarks/transport/2026-11-21.md."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Feeding:
    """What keeps up with a training at full speed."""

    decode_seconds: float
    """CPU time for each crop that is trained on."""
    transport_seconds: float
    cpus: int
    """For both, with HEADROOM."""
    nodes: int
    """Of the CPU nodes that carry them."""
    storage_bytes_per_second: float
    """Out of the bucket."""
    stream_bytes_per_second: float
    """Pixels, to all GPUs together."""
    source: str
    """Of the decode time."""


def feeding(
    decoding: Decoding,
    *,
    samples_per_second: float,
    repeats: int,
    sample_pixel_bytes: int,
    node_cpus: int,
) -> Feeding:
    """What `samples_per_second` crops take, of which `repeats` come from each decode."""
    decode, transport = decoding.seconds_per_crop(repeats), sample_pixel_bytes * TRANSPORT
    cpus = math.ceil(HEADROOM * samples_per_second * (decode + transport))
    return Feeding(
        decode_seconds=decode,
        transport_seconds=transport,
        cpus=cpus,
        nodes=math.ceil(cpus / node_cpus),
        storage_bytes_per_second=samples_per_second / repeats * decoding.sample_bytes,
        stream_bytes_per_second=samples_per_second * sample_pixel_bytes,
        source=decoding.source,
    )
