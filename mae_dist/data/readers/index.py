"""What reading each shard of a source gave, kept so that an unchanged shard is not read again.

    shards of the source -> those that changed are read, several at once -> one index per shard -> catalog

The indices lie in one hidden file beside the catalog, a row per shard. It is a shortcut and nothing else:
without it, or with one that cannot be read, every shard is read.

Shards are read by threads, not by Ray: each costs a few ranged requests and hardly any computing, so a
cluster would add a start of seconds and workers that wait.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mae_dist import storage
from mae_dist.data.catalog import Catalog
from mae_dist.data.readers.source import Request, Source, SourceError, name_of, names_up_to, number
from mae_dist.data.shards import ShardError
from mae_dist.storage import FileInfo

FORMAT = "1"
_METADATA_KEY = b"mae_dist.shard_index"
_READERS = 32
_SHOWN = 5

SAMPLES = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("label", pa.string()),
    ]
)
"""The samples of a shard in their order; label: a name or a number as text, null for unknown."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class About:
    """What holds for all samples of a shard, and must be the same in all shards of a source."""

    media: str
    labels: str | None
    """ "numbers", "names", or None where nothing is labelled."""
    classes: tuple[str, ...] | None = None
    """Names of labels that are numbers, where the shard has them."""


@dataclass(frozen=True)
class ShardIndex:
    """What was read of one shard."""

    about: About
    samples: pa.Table
    """Columns: SAMPLES."""
    neighbours: int
    """How many samples in a row are worth reading together."""


ReadShard = Callable[[FileInfo], ShardIndex]
"""Reads one shard; raises ShardError if it is none, StorageError if it cannot be reached."""


def catalog_of_shards(
    source: Source, shards: Sequence[FileInfo], read: ReadShard, request: Request
) -> Catalog:
    """The samples of all shards, in the order of the shards.

    Raises ShardError that names every shard that is damaged, SourceError where shards disagree.
    """
    indices = _index_all(source, shards, read, request)
    filled = [(shard, index) for shard, index in zip(shards, indices, strict=True) if index.samples.num_rows]
    if not filled:
        raise SourceError(f"{source.uri}: {len(shards)} shard(s), all without samples")
    first_shard, first = filled[0]
    for shard, index in filled:
        if index.about != first.about:
            raise SourceError(
                f"{source.uri}: {name_of(shard.uri)} has other labels, classes or media than "
                f"{name_of(first_shard.uri)}; shards of one source must agree"
            )
    table = pa.concat_tables([index.samples for _, index in filled])
    labels, classes = _labels(source, table["label"], first.about)
    counts = [index.samples.num_rows for _, index in filled]
    uris = pa.DictionaryArray.from_arrays(
        pa.array(np.repeat(np.arange(len(filled), dtype=np.int32), counts)),
        [shard.uri for shard, _ in filled],
    )
    return Catalog.of(
        keys=table["key"].combine_chunks(),
        uris=uris,
        media=first.about.media,
        labels=labels,
        classes=classes,
        rows=table["row"].to_numpy(),
        offsets=table["offset"].to_numpy(),
        lengths=table["length"].to_numpy(),
        chunk=_chunk(source, labels, max(index.neighbours for _, index in filled)),
    )


def _index_all(
    source: Source, shards: Sequence[FileInfo], read: ReadShard, request: Request
) -> list[ShardIndex]:
    """The index of each shard, read or known from the last time."""
    known = _load(request.index_uri)
    found = {shard.uri: known[key] for shard in shards if (key := _key(shard)) in known}
    damaged: dict[str, str] = {}
    try:
        with ThreadPoolExecutor(_READERS) as pool:
            pending = {pool.submit(read, shard): shard.uri for shard in shards if shard.uri not in found}
            for done in as_completed(pending):
                try:
                    found[pending[done]] = done.result()
                except ShardError as error:
                    damaged[pending[done]] = str(error)
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
                request.show("shards read", len(found) + len(damaged), len(shards))
    finally:
        # Also after a failure: what was read then need not be read again.
        if request.index_uri is not None and pending:
            _save(
                request.index_uri, {_key(shard): found[shard.uri] for shard in shards if shard.uri in found}
            )
    if damaged:
        complaints = [damaged[shard.uri] for shard in shards if shard.uri in damaged]
        more = f"\n  and {len(complaints) - _SHOWN} more" if len(complaints) > _SHOWN else ""
        raise ShardError(
            complaints[0]
            if len(shards) == 1
            else f"{source.uri}: {len(complaints)} of {len(shards)} shards cannot be used:\n"
            + "\n".join(f"  {complaint}" for complaint in complaints[:_SHOWN])
            + more
        )
    return [found[shard.uri] for shard in shards]


def _labels(source: Source, column: pa.ChunkedArray, about: About) -> tuple[np.ndarray, Sequence[str]]:
    if about.labels is None:
        return np.full(len(column), -1), ()
    if about.labels == "names":
        return number(column.to_pylist())
    numbers = column.cast(pa.int64()).fill_null(-1).to_numpy()
    return numbers, names_up_to(source.uri, numbers, about.classes)


def _chunk(source: Source, labels: np.ndarray, neighbours: int) -> int:
    """Neighbours that are read together and so stay together in the stream."""
    changes = int(np.count_nonzero(np.diff(labels)))
    if neighbours > 1 and len(np.unique(labels)) > 1 and changes < 0.05 * len(labels):
        log.warning(
            "%s: its samples are sorted by class; reading neighbours together would make batches of one "
            "class, so every sample is read on its own, which is slower. Shuffle them once to avoid this.",
            source.uri,
        )
        return 1
    return neighbours


def _key(shard: FileInfo) -> tuple[str, int, str]:
    return shard.uri, shard.size_bytes, shard.version


def _load(uri: str | None) -> dict[tuple[str, int, str], ShardIndex]:
    """What is known from the last time; nothing where that is not there or of another version."""
    if uri is None:
        return {}
    try:
        table = pq.read_table(pa.BufferReader(storage.read_bytes(uri)))
    except (storage.StorageNotFoundError, pa.ArrowException):
        return {}
    if (table.schema.metadata or {}).get(_METADATA_KEY) != FORMAT.encode():
        return {}
    columns: dict[str, Any] = {name: table[name].combine_chunks() for name in table.column_names}
    known = {}
    for row in range(table.num_rows):
        about = json.loads(columns["about"][row].as_py())
        classes = about.pop("classes")
        samples = pa.table([columns[name][row].values for name in SAMPLES.names], schema=SAMPLES)
        key = tuple(columns[name][row].as_py() for name in ("uri", "size_bytes", "version"))
        known[key] = ShardIndex(
            About(**about, classes=None if classes is None else tuple(classes)),
            samples,
            columns["neighbours"][row].as_py(),
        )
    return known


def _save(uri: str, indices: dict[tuple[str, int, str], ShardIndex]) -> None:
    uris, sizes, versions = zip(*indices, strict=True) if indices else ((), (), ())
    ends = np.cumsum([0, *(index.samples.num_rows for index in indices.values())])
    samples = pa.concat_tables([SAMPLES.empty_table(), *(index.samples for index in indices.values())])
    columns = {
        "uri": pa.array(uris, pa.string()),
        "size_bytes": pa.array(sizes, pa.int64()),
        "version": pa.array(versions, pa.string()),
        "about": pa.array([json.dumps(asdict(index.about)) for index in indices.values()], pa.string()),
        "neighbours": pa.array([index.neighbours for index in indices.values()], pa.int64()),
    } | {
        name: pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), samples[name].combine_chunks())
        for name in SAMPLES.names
    }
    table = pa.table(columns).replace_schema_metadata({_METADATA_KEY: FORMAT})
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    storage.write_bytes(uri, file.getvalue())
