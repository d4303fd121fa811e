"""A second build reads the shards that changed, and no others."""

from __future__ import annotations

import os

import pytest

from mae_dist import storage
from mae_dist.data.readers import Request, build_catalog, index, parquet, tars
from mae_dist.data.shards import ShardError
from tests.data.readers.test_tars import images, tar
from tests.data.test_readers import shard


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Names of the shards that are read from now on."""
    names = []

    def watched(reader):
        def read_shard(file):
            names.append(file.uri.rpartition("/")[2])
            return reader(file)

        return read_shard

    monkeypatch.setattr(tars, "index_tar", watched(tars.index_tar))
    monkeypatch.setattr(parquet, "index_parquet", watched(parquet.index_parquet))
    return names


def put(place: str, name: str, samples: int) -> None:
    data = (
        tar(images(samples))
        if name.endswith(".tar")
        else shard([b"x"] * samples, labels=[f"class {n * 7 % 3}" for n in range(samples)])
    )
    storage.write_bytes(storage.join(place, name), data)


@pytest.mark.parametrize("suffix", ["tar", "parquet"])
def test_only_changed_and_new_shards_are_read_again(place, read, suffix):
    request = Request(index_uri=storage.join(place, ".catalog.index"))
    for number in range(3):
        put(place, f"{number}.{suffix}", 10)
    first = build_catalog(place, request=request)
    assert sorted(read) == [f"0.{suffix}", f"1.{suffix}", f"2.{suffix}"]
    read.clear()
    assert build_catalog(place, request=request).digest == first.digest
    assert read == []

    put(place, f"1.{suffix}", 11)
    put(place, f"3.{suffix}", 10)
    storage.delete(storage.join(place, f"0.{suffix}"))
    again = build_catalog(place, request=request)
    assert sorted(read) == [f"1.{suffix}", f"3.{suffix}"]
    assert again.num_samples == 31
    assert again.digest == build_catalog(place).digest


def test_a_shard_of_the_same_size_with_other_bytes_is_read_again(tmp_path, read):
    request = Request(index_uri=f"{tmp_path}/.index")
    put(str(tmp_path), "0.tar", 4)
    build_catalog(str(tmp_path), request=request)
    read.clear()
    os.utime(tmp_path / "0.tar", ns=(0, 1))
    build_catalog(str(tmp_path), request=request)
    assert read == ["0.tar"]


def test_what_was_read_before_a_damaged_shard_is_not_read_again(tmp_path, read):
    request = Request(index_uri=f"{tmp_path}/.index")
    for number in range(3):
        put(str(tmp_path), f"{number}.tar", 4)
    storage.write_bytes(f"{tmp_path}/1.tar", b"x" * 2048)
    with pytest.raises(ShardError):
        build_catalog(str(tmp_path), request=request)
    read.clear()
    put(str(tmp_path), "1.tar", 4)
    build_catalog(str(tmp_path), request=request)
    assert read == ["1.tar"]


@pytest.mark.parametrize("data", [b"", b"no Parquet", shard([b"1"])])
def test_an_index_that_cannot_be_read_is_written_anew(tmp_path, read, data):
    request = Request(index_uri=f"{tmp_path}/.index")
    put(str(tmp_path), "0.tar", 4)
    storage.write_bytes(f"{tmp_path}/.index", data)
    build_catalog(str(tmp_path), request=request)
    build_catalog(str(tmp_path), request=request)
    assert read == ["0.tar"]


def test_progress_counts_the_shards(tmp_path):
    shown = []
    for number in range(3):
        put(str(tmp_path), f"{number}.tar", 2)
    build_catalog(str(tmp_path), request=Request(show=lambda *what: shown.append(what)))
    assert shown == [("shards read", number, 3) for number in (1, 2, 3)]
    assert index.SAMPLES.names == ["key", "row", "offset", "length", "label"]
