"""Whether the driver of a run lives, told by reading alone: its process on this machine, its beat elsewhere.

A beat is a number that a driver raises every BEAT_SECONDS in its drivers/NUMBER.json. That it stands still
takes a while to see; in return no two clocks are ever compared.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from mae_dist import storage
from mae_dist.storage.fence import Fence, latest_token

BEAT_SECONDS = 5.0
SILENT_BEATS = 4
"""A driver on another host counts as dead when its beat has not changed for so many."""

Life = Literal["none", "listening", "alive", "ended", "gone"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """The latest driver of a run, as far as one can tell at this moment."""

    life: Life
    """none: nobody has driven this run (or a version without drivers/). listening: its beat has not stood
    still for long enough to call it gone, nor moved yet. ended: it said so itself."""
    number: int = 0
    """1 for the first driver of the run."""
    host: str = ""
    pid: int = 0
    command: str = ""
    """What it was started with."""


class Pulse:
    """Looks at a run's driver again and again; a later look knows more about a driver on another host."""

    def __init__(self, run_uri: str) -> None:
        self._uri = storage.join(run_uri, "drivers")
        self._beat: tuple[str, int] | None = None
        """Identity and beat of the driver as last seen to change, ..."""
        self._since = 0.0
        """... when that was, by this process's own clock, ..."""
        self._has_moved = False
        """... and whether it has changed before our eyes."""

    def look(self) -> Driver:
        """The driver now; StorageError if the storage cannot be read."""
        latest = Fence(self._uri, latest_token(self._uri))
        holder = read_holder(latest.file) if latest.token else None
        if holder is None:
            return Driver(life="none")
        return Driver(
            life="ended" if holder["released"] else self._life(holder),
            number=latest.token,
            host=holder["host"],
            pid=holder["pid"],
            command=holder["command"],
        )

    def _life(self, holder: Mapping[str, Any]) -> Life:
        lives = lives_here(holder)
        if lives is not None:
            return "alive" if lives else "gone"
        now, beat = time.monotonic(), (holder["id"], holder["beat"])
        if beat != self._beat:
            self._has_moved = self._beat is not None and self._beat[0] == holder["id"]
            self._beat, self._since = beat, now
        if now - self._since > SILENT_BEATS * BEAT_SECONDS:
            return "gone"
        return "alive" if self._has_moved else "listening"


def read_holder(uri: str) -> dict[str, Any] | None:
    """What a driver has written about itself; None if it has written nothing."""
    try:
        return storage.read_json(uri)
    except storage.StorageNotFoundError:
        return None


def lives_here(holder: Mapping[str, Any]) -> bool | None:
    """Whether a driver that was started on this machine still runs; None if it was started on another."""
    if holder["boot"] != boot_id() or holder["host"] != socket.gethostname():
        return None
    try:
        process = psutil.Process(holder["pid"])
        # A killed process whose parent has not asked after it still has an entry, but writes no more.
        is_over = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return not is_over and process.create_time() == holder["process_started"]
    except psutil.NoSuchProcess:
        return False


def boot_id() -> str:
    """Another one after every start of this machine; "" where the system has none."""
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.exists() else ""
