"""What it costs to decode in a process that can be killed, against decoding in the process that asks.

CPU time per sample of both ways (all threads of both processes), of the same samples, in turns; the claim is
the median of the paired ratios. Most of the difference is copying the bytes in and the pixels out.

    python benchmarks/decoder_process.py [--rounds 9] [--json]
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image

from mae_dist import storage
from mae_dist.config.schema import AugmentConfig, InputConfig
from mae_dist.data.decoder import process_decoder
from mae_dist.data.readers import build_catalog
from mae_dist.data.stats import cpu_seconds
from mae_dist.data.synthetic import write_moving_clips
from mae_dist.data.views import Request, ViewSpec, decode_views

GOAL = 1.10
"""Ours to the other way, at most."""


def cases() -> Iterator[tuple[str, list[Request], ViewSpec]]:
    """Name, samples and what becomes of them: a block's worth of small images, of photographs, of clips."""
    small = InputConfig(height=32, width=32)
    yield "32x32 PNG", [still(n, 32, "PNG") for n in range(128)], view(small)
    yield "256x256 JPEG to 224x224", [still(n, 256, "JPEG") for n in range(64)], view(InputConfig())
    with tempfile.TemporaryDirectory() as folder:
        catalog = build_catalog(write_moving_clips(folder, 16, seed=0, frames=96, size=256))
        files = [storage.read_bytes(row.uri) for row in catalog.rows(np.arange(16))]
    clips = [Request(data, "video", number, (0,)) for number, data in enumerate(files)]
    size = InputConfig(frames=16, frame_stride=4)
    yield "16 frames of 256x256 H.264 to 224x224", clips, view(size, crop="multi_scale")


def still(number: int, size: int, format: str) -> Request:
    """A picture of coarse noise."""
    pixels = np.random.default_rng(number).integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((size, size)).save(file, format)
    return Request(file.getvalue(), "image", number, (0,))


def view(size: InputConfig, **augment: Any) -> ViewSpec:
    """Of a training."""
    return ViewSpec(seed=0, input=size, augment=AugmentConfig(**augment))


def paired_ms(requests: list[Request], spec: ViewSpec, rounds: int) -> list[tuple[float, float]]:
    """(in the child, in this process) CPU milliseconds per sample, round by round."""
    size = spec.input
    views = np.empty((len(requests), 1, size.frames, size.height, size.width, 3), np.uint8)
    decoder = process_decoder()
    spec.prepare()

    def in_child() -> None:
        assert decoder.decode(requests, spec, views) == [None] * len(requests)

    def in_process() -> None:
        for request, views_K in zip(requests, views, strict=True):
            decode_views(request, spec, views_K)

    def milliseconds(way: Any) -> float:
        before = cpu_seconds(decoder.pid)
        way()
        return 1000 * (cpu_seconds(decoder.pid) - before) / len(requests)

    in_child()  # starts the child, and fills the caches of both
    in_process()
    return [(milliseconds(in_child), milliseconds(in_process)) for _ in range(rounds)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print the claims as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started, claims = time.perf_counter(), []
    for name, requests, spec in cases():
        pairs = paired_ms(requests, spec, arguments.rounds)
        ours, theirs = (round(statistics.median(way), 4) for way in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        what = f"decoding in a child against decoding in process, {name}"
        claims.append(
            {"what": what, "measured": round(ratio, 4), "goal": GOAL, "met": ratio <= GOAL}
            | {"child_cpu_ms": ours, "in_process_cpu_ms": theirs}
        )
    if arguments.json:
        print(json.dumps({"claims": claims, "seconds": time.perf_counter() - started}, indent=1))
        return
    for claim in claims:
        print(
            f"{claim['measured']:.3f}x (goal {GOAL}x at most): {claim['what']}: "
            f"{claim['child_cpu_ms']} against {claim['in_process_cpu_ms']} ms of CPU"
        )


if __name__ == "__main__":
    main()
