"""Which samples of the source become which shard: shuffled by seed, a pure function of (catalog, settings).

Of samples that lie at one place (the keyframes of a movie) the first stands for all: a place is written once.

Files of their own and members of tars are read one by one anyhow, so they are shuffled freely. A row of
Parquet costs the whole row group, so there runs of neighbours are shuffled, many to a shard, and then the
samples within each shard.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mae_dist.data import keys
from mae_dist.data.catalog import Catalog
from mae_dist.data.places import first_at_place
from mae_dist.data.prepare.settings import Settings

SOURCE_BYTES = 1 << 30
"""A shard is made in memory: no more of the source becomes one, where its lengths are known."""
_RUN_OF_ROWS = 32
"""Where neighbours have one label, runs are this short: a shard of 4,096 then mixes up to 128 labels."""


class Part(NamedTuple):
    """The samples of one shard."""

    number: int
    samples: np.ndarray
    """Numbers in the source's catalog, int64, in the order in which the shard holds them; each the first of
    its place."""


def divide(source: Catalog, settings: Settings) -> list[Part]:
    """All places, each in one part; parts have `shard_size` samples, fewer where those are large."""
    order = _shuffled(source, settings.seed)
    order = order[first_at_place(source)[order] == order]
    ends = _ends(source, order, settings.shard_size)
    parts = []
    for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        samples = keys.rng(settings.seed, 0, number, "order in a part").permutation(order[start:end])
        parts.append(Part(number, samples))
    return parts


def _shuffled(source: Catalog, seed: int) -> np.ndarray:
    rng = keys.rng(seed, 0, 0, "parts")
    num_samples = source.num_samples
    has_rows = int(source.table["row"].to_numpy().max()) >= 0
    run = 1 if not has_rows else source.chunk if source.chunk > 1 else _RUN_OF_ROWS
    starts = rng.permutation(-(-num_samples // run)) * run
    order = (starts[:, None] + np.arange(run)).reshape(-1)
    return order[order < num_samples]


def _ends(source: Catalog, order: np.ndarray, shard_size: int) -> list[int]:
    """Where in `order` each part ends."""
    lengths = np.maximum(source.table["length"].to_numpy(), 0)[order]
    sums = np.cumsum(lengths)
    ends, start = [], 0
    while start < len(order):
        before = sums[start] - lengths[start]
        fitting = int(np.searchsorted(sums, before + SOURCE_BYTES, side="right"))
        start = max(start + 1, min(start + shard_size, fitting))
        ends.append(min(start, len(order)))
    return ends
