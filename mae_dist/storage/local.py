"""Files on a disk: the half of storage that needs no network.

A file is written under another name, synced and renamed, so that no reader and no crash ever sees half of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mae_dist.storage.errors import StorageError, StorageNotFoundError

PARTIAL = ".partial-"
"""Start of the name of a file that is not yet published; listings leave it out."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file or object found by walk_files."""

    uri: str
    size_bytes: int
    version: str = ""
    """Another one whenever the content is another one: the ETag of an object, the mtime (ns) of a file."""

    @classmethod
    def of_file(cls, uri: str, path: str | Path) -> FileInfo:
        """What the disk says about a file; no bytes and no version for a dangling link."""
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return cls(uri, 0)
        return cls(uri, found.st_size, str(found.st_mtime_ns))


@contextlib.contextmanager
def _os_errors(uri: str, verb: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise StorageNotFoundError(f"{uri}: no such file") from error
    except OSError as error:
        raise StorageError(f"{uri}: cannot {verb}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A path on a disk, and what can be done with it; the functions of storage say what each means."""

    uri: str
    path: Path

    def is_root(self) -> bool:
        return self.path.resolve() == Path(self.path.resolve().anchor)

    def exists(self) -> bool:
        with _os_errors(self.uri, "read"):
            return self.path.exists()

    def size(self) -> int:
        with _os_errors(self.uri, "read"):
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            return self.path.stat().st_size

    def read(self, start: int, length: int | None) -> bytes:
        with _os_errors(self.uri, "read"), self.path.open("rb") as file:
            file.seek(start)
            return file.read(-1 if length is None else length)

    def write(self, data: bytes) -> None:
        with _os_errors(self.uri, "write"), self._partial(data) as partial:
            partial.replace(self.path)
            self._sync_folder()

    def append(self, data: bytes) -> None:
        with _os_errors(self.uri, "write"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(data)

    def create(self, data: bytes) -> bool:
        # A hard link publishes the finished file and fails if the name is taken; O_EXCL alone would show an
        # empty file to a reader, and leave it there if the writer dies.
        with _os_errors(self.uri, "write"), self._partial(data) as partial:
            try:
                os.link(partial, self.path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                    raise
                return self._create_without_links(data)
            self._sync_folder()
            return True

    def _create_without_links(self, data: bytes) -> bool:
        try:
            with self.path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            return False
        return True

    @contextlib.contextmanager
    def _partial(self, data: bytes) -> Iterator[Path]:
        """`data` on disk under a name that listings leave out; gone afterwards unless it was renamed."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
        try:
            with partial.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield partial
        finally:
            partial.unlink(missing_ok=True)

    def _sync_folder(self) -> None:
        # The new name itself must survive a power cut, not only the bytes.
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def names(self) -> list[str]:
        if not self.path.exists():
            return []
        with _os_errors(self.uri, "list"):
            return [name for name in os.listdir(self.path) if not name.startswith(PARTIAL)]

    def walk(self) -> Iterator[FileInfo]:
        if self.path.is_file():
            yield FileInfo.of_file(self.uri, self.path)
        elif self.path.exists():
            with _os_errors(self.uri, "list"):
                yield from _walk(self.uri, self.path, frozenset())

    def delete(self) -> None:
        with _os_errors(self.uri, "delete"):
            self.path.unlink(missing_ok=True)

    def delete_tree(self) -> None:
        with _os_errors(self.uri, "delete"):
            if self.path.is_dir() and not self.path.is_symlink():
                shutil.rmtree(self.path)
            else:
                self.path.unlink(missing_ok=True)

    def open(self) -> BinaryIO:
        with _os_errors(self.uri, "read"):
            return self.path.open("rb")

    def check_read(self) -> None:
        if not os.access(self.path, os.R_OK):
            raise StorageError(f"{self.uri}: cannot read: permission denied")

    def check_write(self) -> None:
        with _os_errors(self.uri, "write"):
            folder = next(place for place in [self.path, *self.path.absolute().parents] if place.exists())
        if folder == self.path and self.path.is_file():
            folder = self.path.parent
        if not folder.is_dir():
            raise StorageError(f"{self.uri}: cannot write: {folder} is a file, not a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(f"{self.uri}: cannot write: no permission to create files in {folder}")


def _walk(uri: str, folder: Path, above: frozenset[str]) -> Iterator[FileInfo]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that contains it
        return
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(PARTIAL)]
    # The slash makes the order of whole URIs, as an object store lists them: "a.txt" before "a/b.txt".
    for entry in sorted(entries, key=lambda entry: entry.name + "/" * entry.is_dir()):
        if entry.is_dir():
            yield from _walk(f"{uri.rstrip('/')}/{entry.name}", Path(entry.path), above | {real})
        else:
            # A dangling link is listed, with no bytes, so that whoever reads it can name it.
            yield FileInfo.of_file(f"{uri.rstrip('/')}/{entry.name}", entry.path)
