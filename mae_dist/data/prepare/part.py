"""Making one shard, and the record that says it is whole and what it holds.

The record is written after the shard: whoever is killed in between makes the shard again, to the same bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mae_dist import storage
from mae_dist.data.catalog import SCHEMA, Catalog, Row
from mae_dist.data.fetch import fetch
from mae_dist.data.limits import DecodeError
from mae_dist.data.prepare.division import Part
from mae_dist.data.prepare.packing import pack
from mae_dist.data.prepare.recoding import Recode, Recoded, Recoder
from mae_dist.data.prepare.settings import Settings

SOURCE, SHARDS, RECORDS = "source.parquet", "shards", "parts"
_METADATA_KEY = b"mae_dist.part"
_FETCHED_BYTES = 64 << 20
_LENGTH_GUESSES = {"image": 256 << 10, "video": 8 << 20}

_AS_IN_A_CATALOG = ("key", "row", "offset", "length", "sha256", "label", "frames", "fps")
COLUMNS = pa.schema(
    [pa.field("sample", pa.int64(), nullable=False), *(SCHEMA.field(name) for name in _AS_IN_A_CATALOG)]
)
"""As a catalog's, and `sample`: the number in the catalog of the source."""


class LeftOut(NamedTuple):
    """A sample that cannot be used, the first of its place."""

    sample: int
    key: str
    uri: str
    reason: str


@dataclass(frozen=True)
class Record:
    """What a shard holds."""

    shard: str | None
    """Its name in the folder of shards; None where no sample could be used."""
    samples: pa.Table
    """Columns: COLUMNS, in the order of the shard."""
    left_out: tuple[LeftOut, ...]
    bytes_before: int
    """Of the samples in the shard, as they were fetched."""
    bytes_after: int
    """Of the same samples in the shard."""
    kept: int
    """Samples that were stored as they were."""


def part_name(number: int) -> str:
    """How the files of a part are called, up to their suffix."""
    return f"part-{number:05d}"


def make_part(destination: str, settings: Settings, part: Part) -> int:
    """Write the shard and the record of this part; returns its number.

    Raises StorageError if a place cannot be reached, DecoderError if nothing can be recoded here.
    """
    with Recoder(settings) as recode:
        write_part(destination, settings, part, recode)
    return part.number


def write_part(destination: str, settings: Settings, part: Part, recode: Recode) -> None:
    """As `make_part`, with what recodes a sample."""
    source = _source(storage.join(destination, SOURCE))
    # In the order of the source, so that neighbours are fetched together; the shard has its own order.
    order = np.argsort(part.samples, kind="stable")
    rows = source.rows(part.samples[order])
    made: list[Recoded | None] = [None] * len(rows)
    left_out: list[LeftOut] = []
    bytes_before = kept = 0
    for place, row, data in zip(order.tolist(), rows, _fetched(rows, settings), strict=True):
        try:
            if isinstance(data, DecodeError):
                raise data
            recoded = recode(data)
        except DecodeError as error:
            left_out.append(LeftOut(int(part.samples[place]), row.key, row.uri, str(error)))
            continue
        made[place] = recoded
        bytes_before += len(data)
        kept += recoded.data is data
    rows_in_order: list[Row] = source.rows(part.samples)
    usable = [(place, sample) for place, sample in enumerate(made) if sample is not None]
    places = [place for place, _ in usable]
    samples = [sample for _, sample in usable]
    rows = [rows_in_order[place] for place in places]
    shard, where = None, []
    if samples:
        packed = pack(settings.media, rows, samples, source.classes)
        shard, where = part_name(part.number) + packed.suffix, packed.places
        storage.write_bytes(storage.join(destination, SHARDS, shard), packed.data)
    table = _table(part.samples[places], rows, samples, where)
    after = sum(len(sample.data) for sample in samples)
    _save(destination, part.number, Record(shard, table, tuple(left_out), bytes_before, after, kept))


def read_record(destination: str, number: int) -> Record:
    """What was recorded of a part; StorageError if there is nothing or it cannot be read."""
    uri = _record_uri(destination, number)
    data = storage.read_bytes(uri)
    try:
        table = pq.read_table(pa.BufferReader(data))
        about = json.loads(table.schema.metadata[_METADATA_KEY])
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise storage.StorageError(
            f"{uri}: is no record of a shard; delete it, and the shard is made again"
        ) from error
    about["left_out"] = tuple(LeftOut(*entry) for entry in about["left_out"])
    return Record(samples=table.replace_schema_metadata(None).cast(COLUMNS), **about)


def _fetched(rows: Sequence[Row], settings: Settings) -> Iterator[bytes | DecodeError]:
    """The encoded bytes of each row, some ahead of the others but never more than fit into memory."""
    guess = _LENGTH_GUESSES[settings.media]
    start = size = 0
    for index, row in enumerate(rows):
        size += row.length if row.length >= 0 else guess
        if size >= _FETCHED_BYTES or index + 1 == len(rows):
            yield from fetch(rows[start : index + 1], settings.limits)
            start, size = index + 1, 0


def _table(
    numbers: np.ndarray,
    rows: Sequence[Row],
    samples: Sequence[Recoded],
    places: Sequence[tuple[int, int, int, bytes]],
) -> pa.Table:
    row_numbers, offsets, lengths, digests = zip(*places, strict=True) if places else ((), (), (), ())
    columns = [
        numbers,
        [row.key for row in rows],
        row_numbers,
        offsets,
        lengths,
        digests,
        [row.label for row in rows],
        [sample.frames for sample in samples],
        [sample.fps for sample in samples],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, COLUMNS, strict=True)]
    return pa.table(arrays, schema=COLUMNS)


def _save(destination: str, number: int, record: Record) -> None:
    about = {
        "shard": record.shard,
        "left_out": record.left_out,
        "bytes_before": record.bytes_before,
        "bytes_after": record.bytes_after,
        "kept": record.kept,
    }
    file = io.BytesIO()
    pq.write_table(record.samples.replace_schema_metadata({_METADATA_KEY: json.dumps(about)}), file)
    storage.write_bytes(_record_uri(destination, number), file.getvalue())


def _record_uri(destination: str, number: int) -> str:
    return storage.join(destination, RECORDS, f"{part_name(number)}.parquet")


@lru_cache(maxsize=1)
def _source(uri: str) -> Catalog:
    """The catalog of the source, once per process; it does not change while its destination exists."""
    return Catalog.load(uri)
