"""What preparing changed, measured on some of the samples: bytes, decoding time, pixels.

Decoding goes the way that training goes, from the encoded bytes to the crop, in this process. Before and
after take turns, and of several rounds the median counts, so that what else the machine does weighs on both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mae_dist import storage
from mae_dist.config.limits import DecodeLimits
from mae_dist.config.schema import AugmentConfig, InputConfig, ViewsConfig
from mae_dist.data import keys
from mae_dist.data.catalog import Catalog, Row
from mae_dist.data.fetch import fetch
from mae_dist.data.limits import DecodeError
from mae_dist.data.prepare.outcome import Outcome
from mae_dist.data.views import Request, ViewSpec, decode_views

COMPARISON = "comparison.json"
_ROUNDS = 3
_DECODINGS = {
    # As the recipes of the papers have it.
    "image": (InputConfig(), AugmentConfig(), "a random resized crop of 224, bicubic"),
    "video": (
        InputConfig(frames=16, frame_stride=4),
        AugmentConfig(crop="multi_scale", interpolation="bilinear"),
        "16 frames, every 4th, a multi-scale crop of 224, bilinear",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Means over the samples that were looked at."""

    samples: int
    decoding: str
    """What was decoded of each."""
    bytes_before: float
    bytes_after: float
    decode_ms_before: float
    """CPU time; the median of several rounds for each sample."""
    decode_ms_after: float
    pixel_difference: float
    """Mean absolute difference of the centre crop, of 255 levels."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with how many times as many bytes and how many times as fast."""
        return asdict(self) | {
            "bytes_ratio": self.bytes_after / self.bytes_before,
            "decode_speedup": self.decode_ms_before / self.decode_ms_after,
        }


def compare(source: Catalog, outcome: Outcome, *, media: str, num_samples: int, seed: int) -> Comparison:
    """Look at `num_samples` samples (all, if there are fewer), drawn by seed.

    Raises StorageError if a place cannot be reached, DecodeError if a sample can no longer be decoded.
    """
    count = min(num_samples, outcome.catalog.num_samples)
    rng = keys.rng(seed, 0, 0, "comparison")
    after = np.sort(rng.choice(outcome.catalog.num_samples, count, replace=False))
    before = outcome.source_samples[after]
    size, augmentation, decoding = _DECODINGS[media]
    training = ViewSpec(seed=seed, input=size, augment=augmentation)
    centre = replace(training, test=ViewsConfig())
    training.prepare()
    rows = []
    originals, results = source.rows(before), outcome.catalog.rows(after)
    pairs = zip(_encoded(originals), _encoded(results), strict=True)
    for number, (original, pair) in enumerate(zip(originals, pairs, strict=True)):
        requests = [Request(data, media, number, (0,)) for data in pair]
        try:
            difference = _difference(requests, centre)  # first: it loads libraries
            seconds = _seconds(requests, training)
        except DecodeError as error:
            raise _named(original, error) from error
        rows.append((*map(len, pair), *(1000 * value for value in seconds), difference))
    means = [float(value) for value in np.mean(rows, axis=0)]
    names = ("bytes_before", "bytes_after", "decode_ms_before", "decode_ms_after", "pixel_difference")
    return Comparison(samples=count, decoding=decoding, **dict(zip(names, means, strict=True)))


def save(destination: str, comparison: Comparison) -> None:
    """Write it beside the catalog."""
    storage.write_json(storage.join(destination, COMPARISON), comparison.as_dict())


def _encoded(rows: Sequence[Row]) -> Iterator[bytes]:
    for row, data in zip(rows, fetch(rows, DecodeLimits()), strict=True):
        if isinstance(data, DecodeError):
            raise _named(row, data)
        yield data


def _named(row: Row, error: DecodeError) -> DecodeError:
    return DecodeError(f"{row.uri} ({row.key}): {error}")


def _seconds(requests: Sequence[Request], spec: ViewSpec) -> list[float]:
    """CPU time of decoding each of them."""
    rounds: list[list[float]] = []
    for _ in range(_ROUNDS):
        took = []
        for request in requests:
            began = time.process_time()
            _decode(request, spec)
            took.append(time.process_time() - began)
        rounds.append(took)
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _difference(requests: Sequence[Request], spec: ViewSpec) -> float:
    before, after = (_decode(request, spec).astype(np.int16) for request in requests)
    return float(np.abs(before - after).mean())


def _decode(request: Request, spec: ViewSpec) -> np.ndarray:
    size = spec.input
    views_KTHWC = np.empty((1, size.frames, size.height, size.width, 3), dtype=np.uint8)
    decode_views(request, spec, views_KTHWC)
    return views_KTHWC
