"""Which samples become which shard."""

from __future__ import annotations

import numpy as np
import pytest

from mae_dist.data.catalog import Catalog
from mae_dist.data.prepare import division
from mae_dist.data.prepare.division import divide
from mae_dist.data.prepare.settings import Settings


def catalog_of(num_samples: int, *, in_rows: bool = False, chunk: int = 1, length: int = -1) -> Catalog:
    return Catalog.of(
        keys=[f"{number:05d}" for number in range(num_samples)],
        uris=["/shard" if in_rows else f"/{number}" for number in range(num_samples)],
        media="image",
        labels=[0] * num_samples,
        classes=["a"],
        rows=np.arange(num_samples) if in_rows else None,
        lengths=np.full(num_samples, length),
        chunk=chunk,
    )


def numbers(source: Catalog, **settings) -> list[list[int]]:
    return [part.samples.tolist() for part in divide(source, Settings.of(source, **settings))]


@pytest.mark.parametrize("in_rows", [False, True])
@pytest.mark.parametrize("num_samples", [1, 7, 64, 1000])
def test_every_sample_is_in_one_part(num_samples, in_rows):
    parts = numbers(catalog_of(num_samples, in_rows=in_rows), shard_size=64)
    assert sorted(number for part in parts for number in part) == list(range(num_samples))
    assert {len(part) for part in parts[:-1]} <= {64}


def test_a_place_that_many_samples_share_is_in_one_part_once():
    source = Catalog.of(
        keys=[f"{number}" for number in range(60)],
        uris=[f"/{number % 7}" for number in range(60)],
        media="image",
        labels=[0] * 60,
        classes=["a"],
    )
    assert sorted(number for part in numbers(source, shard_size=3) for number in part) == [*range(7)]


def test_the_order_depends_on_the_seed_and_on_nothing_else():
    source = catalog_of(100)
    assert numbers(source, shard_size=10) == numbers(catalog_of(100), shard_size=10)
    assert numbers(source, shard_size=10) != numbers(source, shard_size=10, seed=1)


def test_samples_of_their_own_are_shuffled_freely():
    [first, *_] = numbers(catalog_of(10_000), shard_size=100)
    assert np.ptp(first) > 9_000
    assert np.abs(np.diff(sorted(first))).max() > 100


@pytest.mark.parametrize(("chunk", "run"), [(1, 32), (50, 50)])
def test_a_shard_takes_runs_of_parquet_rows_and_shuffles_them(chunk, run):
    [first, *_] = numbers(catalog_of(10_000, in_rows=True, chunk=chunk), shard_size=10 * run)
    assert len({number // run for number in first}) == 10
    assert first != sorted(first)
    assert np.abs(np.diff(first)).min() > 0
    assert np.count_nonzero(np.diff(first) == 1) < 0.1 * len(first)


def test_large_samples_make_shards_of_fewer(monkeypatch):
    monkeypatch.setattr(division, "SOURCE_BYTES", 1000)
    assert {len(part) for part in numbers(catalog_of(40, length=250), shard_size=10)} == {4}
    assert {len(part) for part in numbers(catalog_of(40, length=1500), shard_size=10)} == {1}
    assert {len(part) for part in numbers(catalog_of(40, length=10), shard_size=10)} == {10}
