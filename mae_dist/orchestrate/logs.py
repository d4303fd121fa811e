"""What a step prints, where a reader finds it: log.txt in the folder of its results."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mae_dist import storage
from mae_dist.train.metrics import describe

PUBLISH_SECONDS = 10.0
"""Between two copies of a log to an object store, which cannot append."""
CAP_BYTES = 4 << 20
"""Of such a copy: the end of the log."""


class StepLog:
    """The log of one step, which its process and the runner append to.

    On a disk it is written in place. For an object store it is written beside the driver and copied.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        local = storage.local_path(uri)
        self._copied_bytes: int | None = None if local is not None else 0
        self._copied = float("-inf")
        self._progress: Mapping[str, Any] | None = None
        if local is not None:
            self.file = Path(local).absolute()
            self.file.parent.mkdir(parents=True, exist_ok=True)
            return
        self.file = Path(tempfile.mkdtemp(prefix="step-log-")) / "log.txt"
        if storage.exists(self._uri):
            self.file.write_bytes(storage.read_bytes(self._uri))

    def say(self, line: str) -> None:
        """Append a line with the time."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        with self.file.open("a") as file:
            file.write(f"{now} {line}\n")

    def follow(self, progress: Mapping[str, Any] | None) -> None:
        """Append how far the step is, by its progress.json, where that says something new."""
        if progress is None or progress == self._progress:
            return
        self._progress = progress
        # A step that trains nothing on the stream says it in its own words.
        if "text" in progress:
            self.say(progress["text"])
        elif "eta_seconds" in progress:
            self.say(describe(dict(progress), progress["total_steps"]))

    def publish(self, *, at_once: bool = False) -> None:
        """Bring a copy up to date, if there is one: now and then, or `at_once`."""
        if self._copied_bytes is None or not self.file.exists():
            return
        size, now = self.file.stat().st_size, time.monotonic()
        if size == self._copied_bytes or (now < self._copied + PUBLISH_SECONDS and not at_once):
            return
        self._copied_bytes, self._copied = size, now
        with self.file.open("rb") as file:
            file.seek(max(0, size - CAP_BYTES))
            storage.write_bytes(self._uri, file.read())
