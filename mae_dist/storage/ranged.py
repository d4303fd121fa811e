"""A seekable file whose bytes are asked for range by range."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any


class RangedFile(io.RawIOBase):
    """A file of `size_bytes` bytes, for reading; `fetch(start, length)` gives those it is asked for.

    It is never asked for nothing, nor for anything beyond the end.
    """

    def __init__(self, size_bytes: int, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size_bytes, self._fetch, self._at = size_bytes, fetch, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset` from the start, from here or from the end; not before the start."""
        self._at = max(0, offset + (0, self._at, self._size_bytes)[whence])
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes (all, if negative); fewer at the end only."""
        left = max(0, self._size_bytes - self._at)
        wanted = left if size < 0 else min(size, left)
        data = self._fetch(self._at, wanted) if wanted else b""
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """As `read`, for buffered readers."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
