"""Samples as the bytes of one shard, and where in it each lies.

    images   Parquet: as a member of a tar each would take 512 bytes and more beside its own, and a row group
             of neighbours is one request
    videos   tar: a clip needs one video, which is one range of bytes, with its own digest that every read is
             checked against, and no footer to be read first; neighbours still come with one request

Files of their own would be read as quickly, but a store charges for each, and listing millions takes minutes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mae_dist.data.catalog import Row
from mae_dist.data.prepare.recoding import Recoded

ROWS_PER_GROUP = 128
"""Images that are read together: 3 to 4 MB of 256 pixels."""
READ_TOGETHER_BYTES = 4 << 20
"""Neighbours in a tar are read together up to so many bytes."""
MOST_NEIGHBOURS = 512


class Packed(NamedTuple):
    """A shard, and the row, offset, length (-1 where a catalog has none) and sha256 of each sample."""

    data: bytes
    suffix: str
    places: list[tuple[int, int, int, bytes]]


def pack(media: str, rows: Sequence[Row], samples: Sequence[Recoded], classes: Sequence[str]) -> Packed:
    """The samples, at least one, as one shard in their order; the same bytes for the same samples."""
    return (pack_images if media == "image" else pack_videos)(rows, samples, classes)


def pack_images(rows: Sequence[Row], samples: Sequence[Recoded], classes: Sequence[str]) -> Packed:
    """Parquet with the columns key, image and label, page checksums, and the class names in its metadata."""
    schema = pa.schema(
        [pa.field("key", pa.string()), pa.field("image", pa.binary()), pa.field("label", pa.int64())],
        metadata={"classes": json.dumps(list(classes))} if classes else None,
    )
    file = io.BytesIO()
    with pq.ParquetWriter(
        file, schema, compression="none", use_dictionary=False, write_page_checksum=True
    ) as writer:
        for start in range(0, len(rows), ROWS_PER_GROUP):
            group = slice(start, start + ROWS_PER_GROUP)
            columns = [
                [row.key for row in rows[group]],
                [sample.data for sample in samples[group]],
                [row.label for row in rows[group]],
            ]
            writer.write_table(pa.table(columns, schema=schema))
    places = [(number, -1, -1, hashlib.sha256(its.data).digest()) for number, its in enumerate(samples)]
    return Packed(file.getvalue(), ".parquet", places)


def pack_videos(rows: Sequence[Row], samples: Sequence[Recoded], classes: Sequence[str]) -> Packed:
    """A WebDataset tar: for each sample NUMBER.mp4, and NUMBER.json with key, label and class name."""
    pieces: list[bytes] = []
    places, end = [], 0
    for number, (row, sample) in enumerate(zip(rows, samples, strict=True)):
        name = f"{number:06d}"
        about = {"key": row.key, "label": row.label}
        if row.label >= 0:
            about["class"] = classes[row.label]
        for suffix, data in ((".mp4", sample.data), (".json", json.dumps(about).encode())):
            member = _member(name + suffix, data)
            if suffix == ".mp4":
                offset = end + tarfile.BLOCKSIZE
                places.append((-1, offset, len(data), hashlib.sha256(data).digest()))
            pieces += member
            end += sum(map(len, member))
    pieces.append(bytes(2 * tarfile.BLOCKSIZE))
    return Packed(b"".join(pieces), ".tar", places)


def _member(name: str, data: bytes) -> list[bytes]:
    """Header, content and padding; without times and owners, so that equal samples make equal shards."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return [info.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % tarfile.BLOCKSIZE)]
