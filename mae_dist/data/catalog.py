"""The list of a data set's samples: where each lies and what its label is, but no pixels.

A catalog is one Parquet file with one row per sample. What concerns all samples (class names, how many
neighbours are read together, the digest of the content) stands in the metadata of its schema.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mae_dist import storage
from mae_dist.data.order import SampleOrder

FORMAT = 2
_METADATA_KEY = b"mae_dist.catalog"
_ROWS_AT_ONCE = 1 << 20
# URIs of shards and the kind of medium repeat from row to row.
_REPEATED = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", _REPEATED, nullable=False),
        pa.field("media", _REPEATED, nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("sha256", pa.binary(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("fps", pa.float32(), nullable=False),
    ]
)
"""key: name within the data set. uri: the file. media: "image" or "video".

Where in the file: all of it (row and offset -1), a row of a Parquet shard (row >= 0), or the bytes from
`offset` on (offset >= 0: a member of a tar). length: the sample's bytes, -1 unknown. sha256: of
those bytes, empty for unknown. label: -1 unknown. frames: -1 unknown. fps: nan unknown."""


BOX = pa.struct(
    [
        pa.field("x1", pa.float32(), nullable=False),
        pa.field("y1", pa.float32(), nullable=False),
        pa.field("x2", pa.float32(), nullable=False),
        pa.field("y2", pa.float32(), nullable=False),
        pa.field("person", pa.int32(), nullable=False),
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
    ]
)
"""A person in a frame: corners in parts of its width and height, from the top left; a number that the person
keeps in neighbouring keyframes; labels of all that the person does."""
KEYFRAME_SCHEMA = pa.schema(
    [
        *SCHEMA,
        pa.field("time", pa.float64(), nullable=False),
        pa.field("boxes", pa.list_(pa.field("item", BOX, nullable=False)), nullable=False),
    ]
)
"""Of a catalog whose samples are keyframes: `time`, seconds from the start of the file, and their boxes. The
labels are those of the boxes; the sample's own is -1. A dense clip has the keyframe in its middle."""


class CatalogError(ValueError):
    """A file is not a catalog that can be used; the message says why and what would be right."""


class Row(NamedTuple):
    """One sample of a catalog."""

    key: str
    uri: str
    media: str
    row: int
    label: int
    offset: int = -1
    length: int = -1
    sha256: bytes = b""
    time: float | None = None
    """Of the keyframe, in seconds; None where the whole file is the sample."""
    boxes: list[dict[str, Any]] | None = None
    """Of the keyframe, with the fields of BOX."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which part of which public data set a catalog was built as, and what of it is not there."""

    dataset: str
    split: str
    listed: int
    """Samples that the official list names; of keyframes, their videos."""
    missing: tuple[str, ...]
    """Names of those without a file; they are not in the catalog."""


@dataclass(frozen=True)
class Catalog:
    """The samples of a data set, numbered from 0 in the order of `table`.

    Its columns are those of SCHEMA or of KEYFRAME_SCHEMA.
    """

    table: pa.Table
    classes: tuple[str, ...]
    """Name of each label; empty where nothing is labelled."""
    chunk: int
    """How many neighbouring samples are worth reading together; 1 for files of their own."""
    origin: Origin | None = None
    """Known where an official list was read; not part of the digest, which is of the samples."""

    def __post_init__(self) -> None:
        if self.table.num_rows == 0:
            raise CatalogError("a catalog needs at least one sample, this one has none")

    @classmethod
    def of(
        cls,
        *,
        keys: Sequence[str],
        uris: Sequence[str] | pa.Array,
        media: str,
        labels: Sequence[int] | np.ndarray,
        classes: Sequence[str],
        rows: Sequence[int] | np.ndarray | None = None,
        offsets: Sequence[int] | np.ndarray | None = None,
        lengths: Sequence[int] | np.ndarray | None = None,
        times: Sequence[float] | None = None,
        boxes: Sequence[Sequence[Mapping[str, Any]]] | None = None,
        chunk: int = 1,
        origin: Origin | None = None,
    ) -> Catalog:
        """A catalog of samples of one medium whose frame counts and digests are not known yet.

        Keyframes have `times` and `boxes` (dictionaries as BOX has fields), other samples neither.
        """
        num_samples = len(keys)

        def whole_numbers(given: Sequence[int] | np.ndarray | None) -> pa.Array:
            return pa.array(np.full(num_samples, -1) if given is None else np.asarray(given), pa.int64())

        columns = [
            pa.array(keys, pa.string()),
            pa.array(uris, pa.string()).dictionary_encode(),
            pa.array([media] * num_samples, pa.string()).dictionary_encode(),
            whole_numbers(rows),
            whole_numbers(offsets),
            whole_numbers(lengths),
            pa.array([b""] * num_samples, pa.binary()),
            pa.array(np.asarray(labels), pa.int32()),
            pa.array(np.full(num_samples, -1), pa.int32()),
            pa.array(np.full(num_samples, np.nan), pa.float32()),
        ]
        if times is None:
            return cls(pa.table(columns, schema=SCHEMA), tuple(classes), chunk, origin)
        columns += [pa.array(times, pa.float64()), pa.array(boxes, KEYFRAME_SCHEMA.field("boxes").type)]
        return cls(pa.table(columns, schema=KEYFRAME_SCHEMA), tuple(classes), chunk, origin)

    @property
    def num_samples(self) -> int:
        """Rows of the table."""
        return self.table.num_rows

    @property
    def num_classes(self) -> int:
        """Names in `classes`."""
        return len(self.classes)

    @property
    def has_boxes(self) -> bool:
        """Whether the samples are keyframes with boxes."""
        return "boxes" in self.table.column_names

    @cached_property
    def most_boxes(self) -> int:
        """Boxes of the sample that has most of them."""
        if not self.has_boxes:
            return 0
        return max(int(part.value_lengths().to_numpy().max()) for part in self.table["boxes"].chunks)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over classes, chunk and all columns; the same however the content is stored."""
        state = hashlib.sha256(json.dumps([FORMAT, self.classes, self.chunk]).encode())
        for column in self.table.columns:
            for leaf in _leaves(column):
                state.update(_digest(leaf))
        return state.hexdigest()

    def rows(self, samples: np.ndarray) -> list[Row]:
        """The rows of these sample numbers, in their order."""
        known = [name for name in Row._fields if name in self.table.column_names]
        taken = self.table.select(known).take(pa.array(samples))
        columns = (column.to_pylist() for column in taken.columns)
        return [Row(*values) for values in zip(*columns, strict=True)]

    def order(self, seed: int, repeats: int) -> SampleOrder:
        """The endless stream of these samples."""
        return SampleOrder(self.num_samples, self.chunk, seed, repeats)

    def peers(self, sample: int) -> range:
        """The samples that may stand in for an unreadable one: all, itself among them."""
        return range(self.num_samples)

    def subset(self, labels_per_class: int) -> Catalog:
        """The first so many samples of every class, in the order of the catalog, without unlabelled ones."""
        labels = self.table["label"].to_numpy()
        order = np.argsort(labels, kind="stable")
        _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
        rank = np.arange(len(labels)) - np.repeat(starts, counts)
        chosen = np.sort(order[(rank < labels_per_class) & (labels[order] >= 0)])
        if not len(chosen):
            raise CatalogError(f"cannot take {labels_per_class} labels per class: no sample has a label")
        return Catalog(self.table.take(pa.array(chosen)), self.classes, self.chunk)

    def save(self, uri: str) -> None:
        """Write the catalog as one Parquet file."""
        about = {
            "format": FORMAT,
            "classes": self.classes,
            "chunk": self.chunk,
            "digest": self.digest,
            "origin": None if self.origin is None else asdict(self.origin),
        }
        table = self.table.replace_schema_metadata({_METADATA_KEY: json.dumps(about).encode()})
        file = io.BytesIO()
        pq.write_table(table, file, compression="zstd")
        storage.write_bytes(uri, file.getvalue())

    @classmethod
    def load(cls, uri: str) -> Catalog:
        """Read a catalog and check its digest.

        Raises StorageError if it cannot be read, CatalogError if it is no catalog, empty, or was altered.
        """
        data = storage.read_bytes(uri)
        try:
            # read_dictionary keeps millions of equal URIs from becoming millions of strings.
            table = pq.read_table(pa.BufferReader(data), read_dictionary=["uri", "media"])
        except (pa.ArrowException, OSError) as error:
            raise CatalogError(f"{uri}: is not a catalog (not a Parquet file); {_ADVICE}") from error
        about = metadata_of(table.schema)
        if about is None:
            raise CatalogError(f"{uri}: is a Parquet file but not a catalog; {_ADVICE}")
        if about["format"] != FORMAT:
            raise CatalogError(
                f"{uri}: is a catalog of format {about['format']}, this version reads format {FORMAT}; "
                f"build it again with `mae-dist catalog build`"
            )
        if table.num_rows == 0:
            raise CatalogError(f"{uri}: is an empty catalog; a run needs at least one sample")
        schema = KEYFRAME_SCHEMA if "boxes" in table.column_names else SCHEMA
        try:
            table = table.replace_schema_metadata(None).combine_chunks().cast(schema)
        except ValueError as error:  # pa.ArrowInvalid is one
            raise CatalogError(
                f"{uri}: was altered after it was built (its columns are not those of a catalog); build it "
                "again with `mae-dist catalog build`"
            ) from error
        origin = about["origin"] and Origin(
            **about["origin"] | {"missing": tuple(about["origin"]["missing"])}
        )
        catalog = cls(table, tuple(about["classes"]), about["chunk"], origin)
        if catalog.digest != about["digest"]:
            raise CatalogError(
                f"{uri}: was altered after it was built (digest {catalog.digest[:12]}, "
                f"recorded {about['digest'][:12]}); build it again with `mae-dist catalog build`"
            )
        return catalog


_ADVICE = "build one with `mae-dist catalog build`, or name a folder of images, videos or shards, or a list"


def labels_disagree(
    train: tuple[str, ...], test: tuple[str, ...], *, where: str = "the training samples"
) -> str | None:
    """Why a number would not mean the same class in both, or None; `test` may lack the last classes.

    `where` says what has the classes `train`.
    """
    if test == train[: len(test)]:
        return None
    pairs = zip_longest(train, test)
    label, (ours, theirs) = next((n, pair) for n, pair in enumerate(pairs) if pair[0] != pair[1])
    return (
        f"label {label} is {theirs!r} here and {ours!r} in {where} ({len(test)} and "
        f"{len(train)} classes); both need the same classes, numbered alike"
    )


def metadata_of(schema: pa.Schema) -> dict[str, Any] | None:
    """What a catalog's schema says about it (format, classes, chunk, ...); None if it is no catalog's."""
    raw = (schema.metadata or {}).get(_METADATA_KEY)
    return None if raw is None else json.loads(raw)


def _leaves(column: pa.ChunkedArray) -> Iterator[pa.ChunkedArray]:
    """A column without structure: of lists their lengths and their content, of structs their fields."""
    if pa.types.is_list(column.type):
        yield pa.chunked_array([part.value_lengths() for part in column.chunks], pa.int32())
        content = [part.flatten() for part in column.chunks]
        yield from _leaves(pa.chunked_array(content, column.type.value_type))
    elif pa.types.is_struct(column.type):
        for field in column.flatten():
            yield from _leaves(field)
    else:
        yield column


def _digest(column: pa.ChunkedArray) -> bytes:
    """Of one column by value: numbers as little-endian bytes, others as their lengths and their bytes."""
    numbers, content = hashlib.sha256(), hashlib.sha256()
    for start in range(0, len(column), _ROWS_AT_ONCE):
        for part in column.slice(start, _ROWS_AT_ONCE).chunks:
            if pa.types.is_integer(part.type) or pa.types.is_floating(part.type):
                numbers.update(np.ascontiguousarray(part.to_numpy(zero_copy_only=False)).tobytes())
                continue
            strings = part.cast(pa.large_binary() if pa.types.is_binary(part.type) else pa.large_string())
            _, offset_buffer, data_buffer = strings.buffers()
            ends = np.frombuffer(offset_buffer, np.int64)[strings.offset : strings.offset + len(strings) + 1]
            numbers.update(np.diff(ends).tobytes())
            if data_buffer is not None:
                content.update(memoryview(data_buffer)[ends[0] : ends[-1]])
    return numbers.digest() + content.digest()
