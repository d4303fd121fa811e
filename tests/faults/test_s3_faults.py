"""An object store that fails, hangs and lies: the epoch is the same, and not many requests dearer."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mae_dist import storage
from mae_dist.config.geometry import Grid
from mae_dist.config.schema import AugmentConfig, InputConfig, MaskConfig
from mae_dist.data import shards
from mae_dist.data.batch import StreamSpec, build_block, num_blocks
from mae_dist.data.catalog import Catalog
from mae_dist.data.readers import build_catalog
from mae_dist.storage import objects
from mae_dist.storage.client import TIMEOUT_VARIABLE
from tests.faults.s3_proxy import STORM, S3Proxy, s3_proxy

SPEC = StreamSpec(
    seed=3,
    micro_batch=8,
    input=InputConfig(frames=1, frame_stride=1, height=16, width=16),
    augment=AugmentConfig(crop="random_resized"),
    mask=MaskConfig(kind="random", ratio=0.75),
    grid=Grid(frames=1, rows=4, columns=4),
    train=True,
)


@pytest.fixture
def proxy(s3_bucket, s3_server, monkeypatch) -> Iterator[S3Proxy]:
    """A proxy in front of the server, through which this process goes from now on."""
    with s3_proxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def _image(value: int) -> bytes:
    pixels = np.random.default_rng(value).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _files(folder: str) -> Catalog:
    for number in range(64):
        storage.write_bytes(storage.join(folder, f"{number % 3}/{number:03d}.png"), _image(number))
    return build_catalog(folder)


def _shards(folder: str) -> Catalog:
    for part in range(2):
        table = pa.table({"image": [_image(100 * part + row) for row in range(64)], "label": [part] * 64})
        file = io.BytesIO()
        pq.write_table(table, file, row_group_size=2, write_page_checksum=True)
        storage.write_bytes(storage.join(folder, f"{part}.parquet"), file.getvalue())
    return build_catalog(folder)


def _epoch(catalog: Catalog) -> list[dict[str, Any]]:
    shards.open_shard.cache_clear()
    shards._row_group.cache_clear()
    return [build_block(block, catalog, SPEC) for block in range(num_blocks(catalog, SPEC))]


@pytest.mark.slow
@pytest.mark.parametrize("make", [_files, _shards])
def test_an_epoch_in_a_storm_of_faults_is_the_epoch(s3_bucket, proxy, monkeypatch, make):
    catalog = make(storage.join(s3_bucket, "data"))
    proxy.spoil({}, seed=0)
    calm = _epoch(catalog)
    num_requests = proxy.num_requests
    assert num_requests > 60

    monkeypatch.setenv(TIMEOUT_VARIABLE, "2")
    proxy.spoil(STORM, seed=2)  # every kind occurs; 1 / (1 - 0.45) = 1.8 requests are to be expected
    before = storage.counters()
    stormy = _epoch(catalog)

    assert proxy.spoiled.keys() == STORM.keys()
    assert sum(proxy.spoiled.values()) > 0.3 * proxy.num_requests
    for ours, theirs in zip(stormy, calm, strict=True):
        assert ours["faults"] == []
        for name in ("sample", "epoch", "label", "keep", "clips"):
            assert np.array_equal(ours[name], theirs[name])
    assert proxy.num_requests <= 2 * num_requests + 10
    assert storage.counters().retries - before.retries > 0.3 * num_requests


@pytest.mark.parametrize(
    ("kind", "length"), [("hang", None), ("reset", 40), ("truncate", None), ("truncate", 40), ("flip", None)]
)
def test_an_answer_that_is_not_whole_is_asked_for_again(s3_bucket, proxy, monkeypatch, kind, length):
    uri = storage.join(s3_bucket, "a.bin")
    data = bytes(range(200))
    storage.write_bytes(uri, data)
    monkeypatch.setenv(TIMEOUT_VARIABLE, "1")
    proxy.spoil({kind: 1.0}, seed=0)
    proxy.relent_after(2)
    assert storage.read_bytes(uri, start=None if length is None else 20, length=length) == (
        data if length is None else data[20:60]
    )
    # aiohttp sends a request once more by itself if a connection that it used before is closed on it.
    assert proxy.spoiled[kind] == 2


def test_bits_flipped_on_every_way_are_told_from_bits_flipped_in_the_file(s3_bucket, proxy):
    uri = storage.join(s3_bucket, "a.bin")
    data = bytes(range(200))
    storage.write_bytes(uri, data)
    recorded = hashlib.sha256(data[:100]).hexdigest()
    proxy.spoil({"flip": 1.0}, seed=0)
    proxy.relent_after(3)
    assert storage.read_bytes(uri, start=0, length=100, sha256=recorded) == data[:100]
    assert proxy.num_requests == 4
    storage.write_bytes(uri, bytes(200))
    proxy.spoil({}, seed=0)
    with pytest.raises(storage.StorageDamagedError, match=r"a\.bin: is damaged or was replaced"):
        storage.read_bytes(uri, start=0, length=100, sha256=recorded)
    assert proxy.num_requests == 2
    proxy.spoil({"flip": 1.0}, seed=0)
    with pytest.raises(storage.StorageDamagedError):
        storage.read_bytes(uri, start=0, length=100, sha256=recorded)
    assert proxy.num_requests == storage.DAMAGED_READS


def test_each_part_of_a_large_object_is_repeated_for_itself(s3_bucket, proxy, monkeypatch):
    monkeypatch.setattr(objects, "LARGE_BYTES", 1000)
    data = np.random.default_rng(0).bytes(3 * objects.PART_BYTES)
    uri = storage.join(s3_bucket, "weights")
    proxy.spoil({"503": 0.4}, seed=1)
    storage.write_bytes(uri, data)
    assert proxy.spoiled["503"] > 0
    assert proxy.num_requests == 5 + proxy.spoiled["503"]  # begin, three parts, end
    start = len(data) - 20_000
    assert storage.read_bytes(uri, start=start) == data[start:]


def test_an_object_that_is_replaced_while_it_is_read_is_not_half_of_each(s3_bucket, proxy):
    uri = storage.join(s3_bucket, "weights")
    storage.write_bytes(uri, bytes(3 << 20))
    with storage.open_seekable(uri) as file:
        assert file.read(1) == b"\0"
        storage.write_bytes(uri, b"\1" * (3 << 20))
        with pytest.raises(
            storage.StorageError, match="was replaced by another version meanwhile; start again"
        ):
            file.read(2 << 20)
