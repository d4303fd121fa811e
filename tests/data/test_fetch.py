"""Bytes of samples: in order, several requests at a time, and only those that the catalog means."""

from __future__ import annotations

import hashlib
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mae_dist import storage
from mae_dist.config.limits import DecodeLimits
from mae_dist.data.catalog import Row
from mae_dist.data.fetch import CONCURRENT_REQUESTS, GAP_BYTES, SPAN_BYTES, fetch

LIMITS = DecodeLimits()


def whole(uri: str, **known) -> Row:
    return Row(uri, uri, "video", -1, 0, **known)


def member(uri: str, offset: int, length: int, **known) -> Row:
    return Row(f"{uri}/{offset}", uri, "video", -1, 0, offset, length, **known)


@pytest.fixture
def files(tmp_path) -> list[str]:
    uris = [f"{tmp_path}/{number}" for number in range(12)]
    for number, uri in enumerate(uris):
        storage.write_bytes(uri, bytes([number]) * (number + 1))
    return uris


def test_bytes_come_in_the_order_of_the_rows_whatever_their_kind(place):
    shard, file = storage.join(place, "shard"), storage.join(place, "file")
    storage.write_bytes(shard, bytes(range(100)))
    storage.write_bytes(file, b"whole")
    rows = [
        member(shard, 50, 3),
        whole(file),
        member(shard, 10, 2),
        member(shard, 50, 3),
        whole(file, length=5),
    ]
    assert list(fetch(rows, LIMITS)) == [b"234", b"whole", b"\n\x0b", b"234", b"whole"]


def test_several_requests_are_under_way_at_once(files, monkeypatch):
    together = threading.Barrier(CONCURRENT_REQUESTS, timeout=20)
    read_bytes = storage.read_bytes

    def waiting(uri, **span):
        if int(uri.rpartition("/")[2]) < CONCURRENT_REQUESTS:
            together.wait()  # breaks unless so many are here
        return read_bytes(uri, **span)

    monkeypatch.setattr(storage, "read_bytes", waiting)
    assert list(fetch([whole(uri) for uri in files], LIMITS)) == [bytes([n]) * (n + 1) for n in range(12)]


def test_members_share_a_request_while_they_are_near_and_the_request_is_small(tmp_path, monkeypatch):
    uri = f"{tmp_path}/shard"
    asked = []

    def sized(uri, *, start, length):
        asked.append((start, length))
        return bytes(length)

    monkeypatch.setattr(storage, "read_bytes", sized)
    half = SPAN_BYTES // 2
    rows = [member(uri, 0, 100), member(uri, 100 + GAP_BYTES, 100), member(uri, 201 + 2 * GAP_BYTES, half)]
    rows += [member(uri, 201 + 2 * GAP_BYTES + half, half), member(uri, 201 + 2 * GAP_BYTES + 2 * half, 1)]
    assert [len(data) for data in fetch(rows, LIMITS) if isinstance(data, bytes)] == [100, 100, half, half, 1]
    assert sorted(asked) == [
        (0, 200 + GAP_BYTES),
        (201 + 2 * GAP_BYTES, 2 * half),
        (201 + 2 * GAP_BYTES + 2 * half, 1),
    ]


def test_a_file_of_another_length_than_catalogued_is_named(files):
    assert str(next(fetch([whole(files[3], length=9)], LIMITS))) == (
        "4 bytes are there, the catalog says 9: it has changed since then"
    )


def test_what_the_catalog_knows_to_be_too_large_is_not_read(files):
    rows = [whole("missing", length=10), member(files[4], 0, 5), member("missing", 5, 6)]
    answers = list(fetch(rows, DecodeLimits(bytes=5)))
    assert [*map(str, answers)] == ["more than 5 bytes", str(bytes([4]) * 5), "more than 5 bytes"]


@pytest.mark.parametrize("flips", [1, 2, 99])
def test_a_bit_that_flips_on_the_way_is_healed_and_one_that_stays_is_named(tmp_path, monkeypatch, flips):
    uri = f"{tmp_path}/shard"
    data = bytes(range(200))
    storage.write_bytes(uri, data)
    rows = [
        member(uri, start, 10, sha256=hashlib.sha256(data[start : start + 10]).digest())
        for start in (0, 20, 40)
    ]
    read_bytes = storage.read_bytes
    reads = []

    def flipping(uri, *, start, length):
        reads.append((start, length))
        good = bytearray(read_bytes(uri, start=start, length=length))
        if start <= 25 < start + length and sum(begin <= 25 for begin, _ in reads) <= flips:
            good[25 - start] ^= 1
        return bytes(good)

    monkeypatch.setattr(storage, "read_bytes", flipping)
    before = storage.counters()
    answers = list(fetch(rows, LIMITS))
    assert storage.counters().retries - before.retries == len(reads) - 1
    assert [answers[0], answers[2]] == [data[:10], data[40:50]]
    if flips < 3:
        assert answers[1] == data[20:30]
        assert reads == [(0, 50)] + [(20, 10)] * flips
    else:
        assert str(answers[1]) == "its bytes are not those that were catalogued (sha256 differs)"
        assert len(reads) == 3


@pytest.mark.parametrize("flips", [0, 1, 99])
def test_a_row_of_a_parquet_shard_is_compared_with_its_digest(tmp_path, monkeypatch, flips):
    """Its row group has no checksums, as most have none."""
    uri = f"{tmp_path}/shard.parquet"
    images = [bytes([number]) * 1000 for number in range(4)]
    pq.write_table(pa.table({"image": images}), uri, compression="none", use_dictionary=False)
    rows = [
        Row(str(number), uri, "image", number, 0, length=1000, sha256=hashlib.sha256(image).digest())
        for number, image in enumerate(images)
    ]
    read_bytes = storage.read_bytes
    reads = []

    def flipping(uri, **span):
        data = read_bytes(uri, **span)
        if span.get("length") and bytes([2]) * 900 in data:  # the row group, not the footer
            reads.append(span)
            data = data.replace(bytes([2]) * 900, b"!" + bytes([2]) * 899) if len(reads) <= flips else data
        return data

    monkeypatch.setattr(storage, "read_bytes", flipping)
    answers = list(fetch(rows, LIMITS))
    assert [answers[place] for place in (0, 1, 3)] == [images[place] for place in (0, 1, 3)]
    if flips < 2:
        assert answers[2] == images[2]
    else:
        assert str(answers[2]) == "its bytes are not those that were catalogued (sha256 differs)"
    assert len(reads) == min(flips, 1) + 1


def test_after_a_failure_what_was_not_yet_asked_for_is_not_read(files, monkeypatch):
    asked = []
    is_over = threading.Event()

    def refuse(uri, **span):
        asked.append(uri)
        if len(asked) > 1:
            is_over.wait(20)
        raise storage.StorageError(f"{uri}: cannot read: no answer")

    monkeypatch.setattr(storage, "read_bytes", refuse)
    with pytest.raises(storage.StorageError, match="0: cannot read"):
        list(fetch([whole(uri) for uri in files * 100], LIMITS))
    is_over.set()
    assert len(asked) <= 1 + CONCURRENT_REQUESTS
