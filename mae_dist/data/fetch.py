"""From rows of a catalog to their encoded bytes, in few requests and several at a time.

    files of their own      one request each
    members of a tar        neighbours in one ranged request, with the little that lies between them
    rows of Parquet         row groups, see shards.py

An object store answers late rather than slowly: requests run ahead while earlier samples are decoded. What
arrives is compared with the catalog's length and digest, where it has them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from itertools import groupby
from typing import NamedTuple

from mae_dist import storage
from mae_dist.config.limits import DecodeLimits
from mae_dist.data import shards
from mae_dist.data.catalog import Row
from mae_dist.data.limits import DecodeError

CONCURRENT_REQUESTS = 8
GAP_BYTES = 512 << 10
"""Two members this near are read together: passing over the gap takes less than another request."""
SPAN_BYTES = 16 << 20
"""Members are read together up to this size, so that several requests share a large block."""

Data = bytes | DecodeError
"""The encoded bytes of a sample, or why there are none."""


class _Job(NamedTuple):
    """One or several requests that give the data of some of the rows."""

    indices: list[int]
    """Places of the rows in what was asked for."""
    read: Callable[[], list[Data]]


def fetch(rows: Sequence[Row], limits: DecodeLimits) -> Iterator[Data]:
    """The encoded bytes of each row, in order; a DecodeError in place of what is missing or has changed.

    Of a sample that the catalog knows to be larger than the limits allow nothing is read, of one whose size
    only reading shows one byte too many; of what a Parquet shard can tell see `shards.read_rows`. Raises
    StorageError if a place cannot be reached.
    """
    jobs = sorted(_jobs(rows, limits), key=lambda job: min(job.indices))
    answers: dict[int, tuple[Future[list[Data]], int]] = {}
    try:
        for job in jobs:
            future = _threads(os.getpid()).submit(job.read)
            answers |= {index: (future, place) for place, index in enumerate(job.indices)}
        for index in range(len(rows)):
            future, place = answers.pop(index)  # popped, so that bytes are freed when they have been used
            yield future.result()[place]
    finally:
        for future, _ in answers.values():
            future.cancel()


@cache
def _threads(pid: int) -> ThreadPoolExecutor:
    """Where requests wait for their answers; a forked process gets its own."""
    return ThreadPoolExecutor(CONCURRENT_REQUESTS, "fetch")


def _jobs(rows: Sequence[Row], limits: DecodeLimits) -> Iterator[_Job]:
    small = [(index, row) for index, row in enumerate(rows) if row.length <= limits.bytes]
    for index in {*range(len(rows))} - {index for index, _ in small}:
        yield _Job([index], lambda: [DecodeError(f"more than {limits.bytes:,} bytes")])
    parquet = sorted((row.uri, row.row, index) for index, row in small if row.row >= 0)
    for uri, group in groupby(parquet, key=lambda entry: entry[0]):
        indices = [index for _, _, index in group]
        yield _Job(indices, partial(_read_parquet, uri, [rows[index] for index in indices], limits))
    members = sorted((row.uri, row.offset, index) for index, row in small if row.row < 0 <= row.offset)
    for indices in _spans(rows, [index for _, _, index in members]):
        yield _Job(indices, partial(_read_span, [rows[index] for index in indices]))
    for index, row in small:
        if row.row < 0 and row.offset < 0:
            yield _Job([index], partial(_read_alone, row, limits.bytes))


def _spans(rows: Sequence[Row], in_order: Sequence[int]) -> list[list[int]]:
    """Places of members, sorted by shard and offset, in groups that are worth one request."""
    spans: list[list[int]] = []
    for index in in_order:
        row, first = rows[index], rows[spans[-1][0]] if spans else None
        end = max((rows[other].offset + rows[other].length for other in spans[-1]), default=0) if spans else 0
        if (
            first is not None
            and row.uri == first.uri
            and row.offset - end <= GAP_BYTES
            and row.offset + row.length - first.offset <= SPAN_BYTES
        ):
            spans[-1].append(index)
        else:
            spans.append([index])
    return spans


def _read_span(rows: list[Row]) -> list[Data]:
    """Members of one shard, sorted by offset, with one request."""
    start = rows[0].offset
    length = max(row.offset + row.length for row in rows) - start
    try:
        data = storage.read_bytes(rows[0].uri, start=start, length=length)
    except storage.StorageNotFoundError:
        return [DecodeError("the shard is missing") for _ in rows]
    return [_checked(data[row.offset - start :][: row.length], row) for row in rows]


def _read_alone(row: Row, limit: int) -> list[Data]:
    try:
        # Where the catalog does not know it, how much there is shows only when it is read.
        length = None if row.length >= 0 else limit + 1
        data = storage.read_bytes(row.uri, start=0, length=length)
        return [_checked(data, row)]
    except storage.StorageNotFoundError:
        return [DecodeError("the file is missing")]


def _checked(data: bytes, row: Row) -> Data:
    """`data` if it is what the catalog says, read again where a digest differs; else a DecodeError."""
    try:
        try:
            return _check(data, row)
        except storage.StorageDamagedError:  # a bit may have flipped on the way
            length = None if row.offset < 0 else row.length
            return storage.read_checked(
                row.uri,
                lambda data: _check(data, row),
                start=max(row.offset, 0),
                length=length,
                again=True,
            )
    except (DecodeError, storage.StorageDamagedError) as error:
        return DecodeError(str(error))


def _check(data: bytes, row: Row) -> bytes:
    """The same bytes; raises DecodeError or StorageDamagedError if they are not what the catalog says."""
    if row.length >= 0 and len(data) != row.length:
        raise DecodeError(
            f"{len(data)} bytes are there, the catalog says {row.length}: it has changed since then"
        )
    if row.sha256 and hashlib.sha256(data).digest() != row.sha256:
        raise storage.StorageDamagedError("its bytes are not those that were catalogued (sha256 differs)")
    return data


def _read_parquet(uri: str, rows: list[Row], limits: DecodeLimits) -> list[Data]:
    try:
        return _checked_rows(uri, rows, limits, again=False)
    except storage.StorageNotFoundError:
        return [DecodeError("the shard is missing") for _ in rows]
    except DecodeError as error:
        return [error for _ in rows]


def _checked_rows(uri: str, rows: list[Row], limits: DecodeLimits, *, again: bool) -> list[Data]:
    """Rows of a Parquet shard; their row groups are read once more where a digest differs."""
    checked: list[Data] = []
    read = shards.read_rows(uri, [row.row for row in rows], limits, again=again)
    for data, row in zip(read, rows, strict=True):
        try:
            checked.append(data if isinstance(data, DecodeError) else _check(data, row))
        except storage.StorageDamagedError as error:
            if not again:
                return _checked_rows(uri, rows, limits, again=True)
            checked.append(DecodeError(str(error)))
        except DecodeError as error:
            checked.append(error)
    return checked
