"""Parquet shards of encoded images or videos: what a shard holds, and rows out of it.

The footer of a shard is read once per process. The samples of one row group lie beside each other in the file
and are fetched with one ranged request; the last few row groups stay in memory, because neighbouring blocks
want neighbouring rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mae_dist import storage
from mae_dist.config.limits import DecodeLimits
from mae_dist.data.limits import DecodeError, check_bytes

MEDIA_COLUMNS = {
    "image": "image",
    "jpg": "image",
    "img": "image",
    "video": "video",
    "mp4": "video",
    "clip": "video",
}
"""Column of encoded bytes -> what they are; the first of these that a shard has."""
LABEL_COLUMNS = ("label", "labels", "cls")

_FOOTER_GUESS_BYTES = 64 * 1024
_CACHED_ROW_GROUPS = 4
_FRAMING_BYTES = 16 << 10
"""What a page with one sample adds to it at most: its header, with statistics, and its length."""


class ShardError(ValueError):
    """A file is not a shard of samples, or damaged; the message says what was looked for."""


@dataclass(frozen=True)
class Shard:
    """What the footer of one Parquet file of images or videos says."""

    uri: str
    size_bytes: int
    footer: pq.FileMetaData
    media: str
    """ "image" or "video"."""
    bytes_path: str
    """Path of the column with the encoded bytes: "image", or "image.bytes" in a struct."""
    label_column: str | None
    classes: tuple[str, ...] | None
    """Names of integer labels, where the writer left them (Hugging Face, or "classes" in the metadata)."""
    group_starts: np.ndarray
    """First row of each row group, and the number of rows at the end."""

    def group_bytes(self, group: int) -> int:
        """Bytes in the file of the samples of one row group."""
        return self.column(group).total_compressed_size

    def check_group(self, group: int, limits: DecodeLimits) -> None:
        """Raise DecodeError, before anything is read, if samples of a row group must be beyond the limits."""
        num_rows, size = self.footer.row_group(group).num_rows, self.column(group).total_uncompressed_size
        if size > num_rows * (limits.bytes + _FRAMING_BYTES):
            raise DecodeError(
                f"row group {group} of the shard holds {size:,} bytes in {num_rows:,} samples, "
                f"which may have {limits.bytes:,} each"
            )

    def column(self, group: int) -> pq.ColumnChunkMetaData:
        """Where the encoded bytes of one row group lie."""
        about = self.footer.row_group(group)
        columns = (about.column(index) for index in range(about.num_columns))
        return next(column for column in columns if column.path_in_schema == self.bytes_path)


def read_footer(uri: str) -> tuple[pq.FileMetaData, int]:
    """The footer of a Parquet file and the file's size in bytes; pa.ArrowException if it is no such file."""
    size_bytes = storage.size(uri)
    tail = storage.read_bytes(uri, start=max(0, size_bytes - _FOOTER_GUESS_BYTES))
    footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8
    if len(tail) < footer_bytes <= size_bytes and tail[-4:] == b"PAR1":
        tail = storage.read_bytes(uri, start=size_bytes - footer_bytes)
    return pq.read_metadata(pa.BufferReader(tail)), size_bytes


def read_shard(uri: str) -> Shard:
    """Read the footer of a shard. Raises StorageError, or ShardError if the file holds no samples."""
    try:
        footer, size_bytes = read_footer(uri)
    except pa.ArrowException as error:
        raise ShardError(f"{uri}: is not a readable Parquet file ({error})") from error
    schema = footer.schema.to_arrow_schema()
    media, bytes_path = _bytes_path(uri, schema)
    label_column = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    counts = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    return Shard(
        uri=uri,
        size_bytes=size_bytes,
        footer=footer,
        media=media,
        bytes_path=bytes_path,
        label_column=label_column,
        classes=_class_names(schema, label_column),
        group_starts=np.cumsum([0, *counts]),
    )


open_shard = lru_cache(maxsize=256)(read_shard)
"""read_shard, once per process and URI."""


def read_labels(shard: Shard) -> pa.ChunkedArray | None:
    """The label column, integers or strings; None if the shard has none."""
    if shard.label_column is None:
        return None
    with storage.open_seekable(shard.uri) as file:
        return pq.ParquetFile(file, metadata=shard.footer).read([shard.label_column]).column(0)


def read_rows(
    uri: str, rows: list[int], limits: DecodeLimits, *, again: bool = False
) -> list[bytes | DecodeError]:
    """The encoded samples of these rows, in their order; one request per row group that is not cached.

    A DecodeError stands in place of a sample that is empty or beyond the limits: a footer tells only what
    the samples of a row group take together, so the others beside it are read. `again`: what is cached
    turned out to be damaged, and all is read once more. Raises StorageError, or
    DecodeError if the shard does not hold these rows (any more).
    """
    if again:
        _row_group.cache_clear()
    try:
        shard = open_shard(uri)
        samples: dict[int, bytes | DecodeError] = {}
        groups = np.searchsorted(shard.group_starts, rows, side="right") - 1
        for group in sorted(set(groups.tolist())):
            if group >= shard.footer.num_row_groups:
                raise DecodeError(f"the shard has {shard.group_starts[-1]} rows, not the one catalogued")
            shard.check_group(group, limits)
            column = _row_group(uri, group)
            for row in (row for row, its in zip(rows, groups, strict=True) if its == group):
                samples[row] = _sample(column[row - shard.group_starts[group]], limits)
        return [samples[row] for row in rows]
    except ShardError as error:
        raise DecodeError(str(error)) from error


def _sample(value: pa.BinaryScalar, limits: DecodeLimits) -> bytes | DecodeError:
    """The encoded sample; its size is looked at before it is copied."""
    buffer = value.as_buffer()  # None for a null
    try:
        check_bytes(0 if buffer is None else buffer.size, limits)
        return value.as_py()
    except DecodeError as error:
        return error


@lru_cache(maxsize=_CACHED_ROW_GROUPS)
def _row_group(uri: str, group: int) -> pa.Array:
    """The encoded samples of one row group."""
    shard = open_shard(uri)
    column = shard.column(group)
    start = column.data_page_offset
    if column.has_dictionary_page:
        start = min(start, column.dictionary_page_offset)

    def parse(data: bytes) -> pa.Array:
        def fetch(at: int, length: int) -> bytes:
            if at < start or at + length > start + len(data):
                raise OSError(f"{length} bytes at {at} lie outside of the column")
            return data[at - start : at - start + length]

        try:
            window = storage.RangedFile(shard.size_bytes, fetch)
            file = pq.ParquetFile(window, metadata=shard.footer, page_checksum_verification=True)
            return file.read_row_group(group, columns=[shard.bytes_path]).column(0).combine_chunks()
        except (pa.ArrowException, OSError) as error:
            reason = f"row group {group} of the shard is damaged: {error}"
            raise storage.StorageDamagedError(reason) from error

    try:
        samples = storage.read_checked(uri, parse, start=start, length=column.total_compressed_size)
    except storage.StorageDamagedError as error:
        raise DecodeError(str(error)) from error
    samples = samples.field("bytes") if pa.types.is_struct(samples.type) else samples
    if not _is_bytes(samples.type):
        raise DecodeError(f"the shard holds {samples.type}, not bytes")
    return samples


def _is_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes and nothing else: Ray gives pyarrow a type whose values are unpickled."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _bytes_path(uri: str, schema: pa.Schema) -> tuple[str, str]:
    """What the samples are, and the path of the column that holds them."""
    for name, media in MEDIA_COLUMNS.items():
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        if _is_bytes(kind):
            return media, name
        is_struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        if is_struct and _is_bytes(kind.field("bytes").type):
            return media, f"{name}.bytes"
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise ShardError(
        f"{uri}: no column of encoded images or videos: looked for {', '.join(MEDIA_COLUMNS)} (binary, or a "
        f"struct with 'bytes'), found {columns}"
    )


def _class_names(schema: pa.Schema, label_column: str | None) -> tuple[str, ...] | None:
    metadata = schema.metadata or {}
    if b"classes" in metadata:
        text = metadata[b"classes"].decode()
        return tuple(json.loads(text)) if text.startswith("[") else tuple(text.split(","))
    if label_column is not None and b"huggingface" in metadata:
        features = json.loads(metadata[b"huggingface"]).get("info", {}).get("features", {})
        names = features.get(label_column, {}).get("names")
        return None if names is None else tuple(names)
    return None
