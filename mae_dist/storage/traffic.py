"""How much this process has asked of the places it reads and writes."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """Totals of one process since it began; a forked child begins at zero."""

    requests: int = 0
    """Requests sent to object stores, repeated ones included."""
    retries: int = 0
    """Those of them that repeated a failed one, and reads repeated because the bytes were damaged."""
    bytes_read: int = 0
    """Bytes of files and objects handed to callers."""


_total = Counters()
_lock = threading.Lock()


def counters() -> Counters:
    """What this process has asked of storage so far."""
    return _total


def count(*, requests: int = 0, retries: int = 0, bytes_read: int = 0) -> None:
    """Add to the totals; from any thread."""
    global _total
    with _lock:
        _total = Counters(
            requests=_total.requests + requests,
            retries=_total.retries + retries,
            bytes_read=_total.bytes_read + bytes_read,
        )


def _begin_again() -> None:
    # A thread of the parent may have held the lock at the moment of the fork.
    global _total, _lock
    _total, _lock = Counters(), threading.Lock()


os.register_at_fork(after_in_child=_begin_again)
