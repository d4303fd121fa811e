"""URIs to bytes: the one place that knows local disks and object stores.

A URI is a local path, `file://` followed by one, or `s3://bucket/key`. The endpoint and the credentials of an
object store come from the usual environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_PROFILE, ...) and never
appear in a message. What is written appears whole or not at all. A request to an object store that fails, or
has no answer for MAE_DIST_S3_TIMEOUT_SECONDS (10 unless set), is repeated with full jitter (a random wait up
to a doubling bound) until RETRY_SECONDS have passed; then a StorageError says where, what and what would be
right. Safe in threads and in forked or spawned processes.

    uri -> place (local.py on a disk, objects.py in a bucket) -> bytes
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from mae_dist.storage.errors import StorageDamagedError, StorageError, StorageNotFoundError
from mae_dist.storage.local import FileInfo, LocalPlace
from mae_dist.storage.objects import ObjectPlace
from mae_dist.storage.ranged import RangedFile
from mae_dist.storage.traffic import Counters, count, counters

__all__ = [
    "Counters",
    "FileInfo",
    "RangedFile",
    "StorageDamagedError",
    "StorageError",
    "StorageNotFoundError",
    "counters",
]

T = TypeVar("T")

RETRY_SECONDS = 60.0
"""How long one request to an object store is repeated while its failures may pass."""
DAMAGED_READS = 6
"""How often bytes that are not those that were recorded are read before they are taken for damaged."""
CHECK_SECONDS = 5.0
"""The same for check_readable and check_writable, which a user waits for."""


def join(uri: str, *parts: str) -> str:
    """`uri` with `parts` below it, one slash between neighbours."""
    stem = uri.rstrip("/") or "/"
    below = "/".join(part.strip("/") for part in parts if part.strip("/"))
    return f"{stem.rstrip('/')}/{below}" if below else stem


def absolute(uri: str) -> str:
    """`uri` so that it means the same in a process that stands in another folder (Ray's workers do)."""
    return uri if "://" in uri else os.path.abspath(uri)


def local_path(uri: str) -> str | None:
    """The path of `uri` on a disk of this machine; None in an object store."""
    place = _place(uri)
    return str(place.path) if isinstance(place, LocalPlace) else None


def exists(uri: str) -> bool:
    """Whether there is a file, a folder or an object at `uri`, or objects below it."""
    return _place(uri).exists()


def size(uri: str) -> int:
    """Bytes of the file at `uri`; StorageNotFoundError if there is none."""
    return _place(uri).size()


def read_bytes(
    uri: str, *, start: int | None = None, length: int | None = None, sha256: str | None = None
) -> bytes:
    """The file, or `length` bytes from `start` (fewer at its end, as slicing does).

    With the `sha256` (hex) that these bytes had when they were recorded, bits flipped on the way are noticed
    and read again; StorageDamagedError if they lie in the file.
    """
    if sha256 is not None:

        def check(data: bytes) -> bytes:
            found = hashlib.sha256(data).hexdigest()
            if found != sha256:
                raise StorageDamagedError(
                    f"{uri}: is damaged or was replaced: sha256 {found[:12]}..., recorded {sha256[:12]}..."
                )
            return data

        return read_checked(uri, check, start=start, length=length)
    place = _place(uri)
    if length == 0:
        return b""
    data = place.read(start or 0, length)
    count(bytes_read=len(data))
    return data


def read_checked(
    uri: str,
    check: Callable[[bytes], T],
    *,
    start: int | None = None,
    length: int | None = None,
    again: bool = False,
) -> T:
    """check(bytes), where `check` knows what the bytes must be (a digest, a format with checksums).

    When it raises StorageDamagedError the bytes are read again: damage on the way passes. The error rises if
    the same bytes come twice in a row, because then they lie in the file, or after DAMAGED_READS. `again`:
    the caller has read them before, as part of more, so that the first read counts as a repetition.
    """
    previous: bytes | None = None
    for attempt in range(DAMAGED_READS):
        count(retries=int(again or attempt > 0))
        data = read_bytes(uri, start=start, length=length)
        try:
            return check(data)
        except StorageDamagedError:
            if data == previous or attempt + 1 == DAMAGED_READS:
                raise
        previous = data
    raise AssertionError("unreachable")


def write_bytes(uri: str, data: bytes) -> None:
    """Replace the file at `uri`; a reader sees the old bytes or all of the new ones."""
    _place(uri).write(data)


def append_bytes(uri: str, data: bytes) -> None:
    """Add to the end of the file at `uri`, for one writer at a time.

    Object stores cannot append: there the whole object is written again, so keep such files small.
    """
    _place(uri).append(data)


def create_exclusive(uri: str, data: bytes) -> bool:
    """Write `data` unless something is at `uri` already (False then); of several callers one gets True."""
    return _place(uri).create(data)


def list_dir(uri: str) -> list[str]:
    """Names of the files and folders in a folder, sorted; [] if there is no such folder."""
    return sorted(_place(uri).names())


def walk_files(uri: str) -> Iterator[FileInfo]:
    """Every file below a folder, sorted by URI; a file yields itself, a missing place nothing."""
    return _place(uri).walk()


def delete(uri: str) -> None:
    """Delete the file at `uri`; nothing happens if there is none."""
    _place(uri).delete()


def delete_tree(uri: str) -> None:
    """Delete everything at and below `uri`; nothing happens if there is nothing."""
    place = _place(uri)
    if place.is_root():
        raise StorageError(f"{uri}: is the root of a disk or a whole bucket, which is never deleted")
    place.delete_tree()


def open_seekable(uri: str) -> BinaryIO:
    """The file, for reading here and there; on an object store each jump costs one ranged request."""
    return _place(uri).open()


def read_json(uri: str) -> Any:
    """The JSON document at `uri`; StorageError with the line if it is not one."""
    try:
        return json.loads(read_bytes(uri))
    except ValueError as error:
        raise StorageError(f"{uri}: is not JSON: {error}") from None


def write_json(uri: str, obj: Any) -> None:
    """Write `obj` as JSON for people to read; whole or not at all."""
    write_bytes(uri, (json.dumps(obj, indent=2, ensure_ascii=False) + "\n").encode())


def check_readable(uri: str) -> None:
    """Raise a StorageError that names what is missing (file, bucket, credentials, endpoint), or return."""
    place = _place(uri, patience_seconds=CHECK_SECONDS)
    if not place.exists():
        raise StorageNotFoundError(f"{uri}: no such file or folder")
    place.check_read()


def check_writable(uri: str) -> None:
    """Raise a StorageError that names why nothing could be written at `uri`, or return. Writes nothing."""
    _place(uri, patience_seconds=CHECK_SECONDS).check_write()


def _place(uri: str, *, patience_seconds: float | None = None) -> LocalPlace | ObjectPlace:
    scheme, found, rest = uri.partition("://")
    if not found:
        return LocalPlace(uri, Path(uri))
    if scheme == "file" and rest.startswith("/"):
        return LocalPlace(uri, Path(rest))
    if scheme != "s3":
        raise StorageError(
            f"{scheme}://...: cannot be reached by this program; give a local path, file:///path or s3://bucket/key"
        )
    bucket, _, key = rest.partition("/")
    if "@" in bucket or ":" in bucket:
        raise StorageError("s3://...: credentials do not belong in a URI; set AWS_ACCESS_KEY_ID and the like")
    if not bucket:
        raise StorageError(f"{uri}: no bucket; give s3://bucket/key")
    patience = RETRY_SECONDS if patience_seconds is None else patience_seconds
    return ObjectPlace(uri, bucket, key.strip("/"), patience)
