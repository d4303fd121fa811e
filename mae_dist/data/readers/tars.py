"""WebDataset tar shards: where in the shard each sample lies, so that it can be read by range.

Members beside each other whose names agree up to the first dot are one sample: a picture or a video, and its
label in a .cls file (a number or a name) or a .json file (under "label" or "cls"). Only headers and labels
are read, and nothing is ever extracted: a name like ../../etc/passwd is a name and no place.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mae_dist import storage
from mae_dist.data.catalog import Catalog
from mae_dist.data.media import media_of, suffix_of
from mae_dist.data.readers.index import SAMPLES, About, ShardIndex, catalog_of_shards
from mae_dist.data.readers.source import Request, Source, SourceError, examples, name_of
from mae_dist.data.shards import ShardError
from mae_dist.storage import FileInfo, RangedFile

LABEL_KEYS = ("label", "cls")
_COMPRESSED = {".gz", ".tgz", ".bz2", ".xz", ".zst"}

_FIRST_PIECE_BYTES = 64 << 10
_LARGEST_PIECE_BYTES = 8 << 20
_PASSED_OVER_BYTES = 1 << 20
"""Rather than ask a store once more, which takes as long as reading about so much, read on."""
_LARGEST_HEADER_BYTES = 16 << 20
_LARGEST_LABEL_BYTES = 1 << 20
_READ_TOGETHER_BYTES = 4 << 20
_MAX_NEIGHBOURS = 512


class _Member(NamedTuple):
    """One file in a tar."""

    name: str
    offset: int
    size: int


class _Sample(NamedTuple):
    key: str
    media: str
    offset: int
    length: int
    label: str | None


def read_tars(source: Source, request: Request) -> Catalog:
    """The samples of every *.tar file, in the order of the files and of their members."""
    shards = [file for file in source.files if suffix_of(file.uri) == ".tar"]
    if not shards:
        packed = [file.uri for file in source.files if suffix_of(file.uri) in _COMPRESSED]
        advice = "; a compressed tar cannot be read by range: decompress it once" if packed else ""
        raise SourceError(f"{source.uri}: no *.tar file; found {examples(packed or source.uris)}{advice}")
    return catalog_of_shards(source, shards, index_tar, request)


def index_tar(file: FileInfo) -> ShardIndex:
    """Where the samples of one tar lie, and their labels."""
    samples = list(_samples(file))
    media = sorted({sample.media for sample in samples})
    if len(media) > 1:
        raise ShardError(
            f"{file.uri}: holds samples with images and samples with videos; it must be one of them"
        )
    labels = [sample.label for sample in samples]
    given = [label for label in labels if label is not None]
    kind = None if not given else "numbers" if all(_is_number(label) for label in given) else "names"
    lengths = np.array([sample.length for sample in samples], dtype=np.int64)
    name = name_of(file.uri)
    columns = [
        [f"{name}/{sample.key}" for sample in samples],
        np.full(len(samples), -1),
        np.array([sample.offset for sample in samples], dtype=np.int64),
        lengths,
        labels,
    ]
    together = _READ_TOGETHER_BYTES // max(1, int(np.median(lengths))) if samples else 1
    return ShardIndex(
        About(media=media[0] if media else "", labels=kind),
        pa.table(columns, schema=SAMPLES),
        min(_MAX_NEIGHBOURS, max(1, together)),
    )


def _samples(file: FileInfo) -> Iterator[_Sample]:
    """Groups of neighbouring members that hold something to decode."""
    reader = RangedFile(file.size_bytes, _Pieces(file).fetch)
    key, found, label = None, None, None
    for member in _members(file, reader):
        folder, _, name = member.name.rpartition("/")
        stem, dot, kind = name.partition(".")
        if not dot or not stem:
            continue
        its_key = f"{folder}/{stem}" if folder else stem
        if its_key != key:
            if found is not None:
                yield found._replace(label=label)
            key, found, label = its_key, None, None
        media = media_of(name)
        if media is not None:
            if found is not None:
                raise ShardError(
                    f"{file.uri}: sample {key!r} has several images or videos; a sample has one (its members "
                    f"share the name before the first dot)"
                )
            found = _Sample(its_key, media, member.offset, member.size, None)
        elif kind in ("cls", "json") and member.size <= _LARGEST_LABEL_BYTES:
            label = _label(file, member, kind, reader) or label
    if found is not None:
        yield found._replace(label=label)


def _members(file: FileInfo, reader: RangedFile) -> Iterator[_Member]:
    """The regular files of a tar in their order; ShardError with the place where it is damaged."""
    at = 0
    try:
        with tarfile.open(fileobj=reader, mode="r:") as tar:
            while (info := tar.next()) is not None:
                # tarfile goes wherever a header sends it, even back to one it has read.
                if tar.offset <= at:
                    raise tarfile.ReadError("a header with an impossible size")
                at = tar.offset
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  # or it keeps every header
                if info.isreg() and not info.issparse():
                    yield _Member(info.name, info.offset_data, info.size)
            # tarfile ends without a word at whatever is not a header.
            reader.seek(tar.offset)
            if reader.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise tarfile.ReadError("something that is no header")
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise ShardError(
            f"{file.uri}: is damaged, or no tar, from byte {at} of {file.size_bytes} on ({error}); fetch or "
            f"write it again"
        ) from error


def _label(file: FileInfo, member: _Member, kind: str, reader: RangedFile) -> str | None:
    """What a .cls or .json member says, as text."""
    reader.seek(member.offset)
    data = reader.read(member.size)
    try:
        if kind == "cls":
            return data.decode().strip() or None
        content = json.loads(data)
    except ValueError as error:
        raise ShardError(f"{file.uri}: the label in {member.name!r} cannot be read: {error}") from error
    given = [content[name] for name in LABEL_KEYS if name in content] if isinstance(content, dict) else []
    if not given or given[0] is None:
        return None
    if isinstance(given[0], bool) or not isinstance(given[0], int | str):
        raise ShardError(
            f"{file.uri}: the label in {member.name!r} is {str(given[0])[:40]}; a label is a whole number "
            f"or a name"
        )
    return str(given[0])


def _is_number(label: str) -> bool:
    return label.removeprefix("-").isdecimal()


class _Pieces:
    """Ranges of a tar for reading headers and small members, in pieces that fit how far apart those are.

    Among small members whole pieces are read on, ever larger; a large member is jumped over.
    """

    def __init__(self, file: FileInfo) -> None:
        self._file, self._data, self._start, self._piece = file, b"", 0, _FIRST_PIECE_BYTES

    def fetch(self, start: int, length: int) -> bytes:
        """These bytes; ReadError if they are more than any header has."""
        if length > _LARGEST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {length} bytes")
        if not self._start <= start <= self._start + len(self._data) - length:
            self._fill(start, length)
        first = start - self._start
        return self._data[first : first + length]

    def _fill(self, start: int, wanted: int) -> None:
        gap = start - (self._start + len(self._data))
        is_near = bool(self._data) and -len(self._data) <= gap <= _PASSED_OVER_BYTES
        self._piece = min(2 * self._piece, _LARGEST_PIECE_BYTES) if is_near else _FIRST_PIECE_BYTES
        length = min(max(wanted, self._piece), self._file.size_bytes - start)
        self._data = storage.read_bytes(self._file.uri, start=start, length=length)
        self._start = start
