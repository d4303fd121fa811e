"""Parquet shards with encoded images or videos: footers and label columns are read, no sample is."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mae_dist.data.catalog import Catalog
from mae_dist.data.media import suffix_of
from mae_dist.data.readers.index import SAMPLES, About, ShardIndex, catalog_of_shards
from mae_dist.data.readers.source import Request, Source, SourceError, examples, name_of
from mae_dist.data.shards import Shard, ShardError, read_labels, read_shard
from mae_dist.storage import FileInfo

_MAX_NEIGHBOURS = 512
_LARGE_GROUP_BYTES = 256 << 20

log = logging.getLogger(__name__)


def read_parquet(source: Source, request: Request) -> Catalog:
    """The rows of every *.parquet file, in the order of the files."""
    shards = [file for file in source.files if suffix_of(file.uri) == ".parquet"]
    if not shards:
        raise SourceError(f"{source.uri}: no *.parquet file; found {examples(source.uris)}")
    return catalog_of_shards(source, shards, index_parquet, request)


def index_parquet(file: FileInfo) -> ShardIndex:
    """What the footer and the label column of one shard say."""
    shard = read_shard(file.uri)
    num_rows = int(shard.group_starts[-1])
    labels, kind = _labels(shard)
    name = name_of(file.uri)
    unknown = np.full(num_rows, -1)
    keys = [f"{name}/{row}" for row in range(num_rows)]
    samples = pa.table([keys, np.arange(num_rows), unknown, unknown, labels], schema=SAMPLES)
    about = About(media=shard.media, labels=kind, classes=shard.classes)
    largest = max((shard.group_bytes(group) for group in range(shard.footer.num_row_groups)), default=0)
    if largest > _LARGE_GROUP_BYTES:
        log.warning(
            "%s: its row groups hold up to %d MB, and a row group is read whole for any row of it; write it "
            "with row groups of 4 to 64 MB",
            file.uri,
            largest >> 20,
        )
    # Rows of a row group come with one request.
    rows_per_group = int(np.diff(shard.group_starts).max(initial=1))
    return ShardIndex(about, samples, min(_MAX_NEIGHBOURS, rows_per_group))


def _labels(shard: Shard) -> tuple[pa.Array | pa.ChunkedArray, str | None]:
    """The labels as text, and what they are."""
    labels = read_labels(shard)
    if labels is None:
        return pa.nulls(int(shard.group_starts[-1]), pa.string()), None
    if pa.types.is_dictionary(labels.type):
        labels = pc.cast(labels, labels.type.value_type)
    if pa.types.is_integer(labels.type):
        return labels.cast(pa.string()), "numbers"
    if pa.types.is_string(labels.type) or pa.types.is_large_string(labels.type):
        return labels.cast(pa.string()), "names"
    raise ShardError(
        f"{shard.uri}: column {shard.label_column!r} holds {labels.type}; a label is a whole number or a name"
    )
