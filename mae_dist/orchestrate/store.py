"""The run directory: which steps are done, and which driver may write."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any

import psutil

from mae_dist import storage
from mae_dist.orchestrate.pulse import BEAT_SECONDS, SILENT_BEATS, boot_id, lives_here, read_holder
from mae_dist.orchestrate.step import Step
from mae_dist.storage.fence import Fence, latest_token


class RunLockedError(RuntimeError):
    """Another live driver holds the run directory: which one, where, and how to follow what it does."""


class RunStore:
    """Markers and summaries of steps in one run directory; with a fence, written only while it holds.

    DONE.json is there when a step is done. FAILED.json says why it failed the last time; nobody relies on it.
    """

    def __init__(self, uri: str, *, fence: Fence | None = None) -> None:
        self.uri = uri
        self._fence = fence

    @property
    def driver(self) -> int | None:
        """Number of the driver that writes here; None without a fence."""
        return None if self._fence is None else self._fence.token

    def output(self, step: Step) -> str:
        """Where the step writes."""
        return storage.join(self.uri, step.output)

    def is_done(self, step: Step) -> bool:
        """Whether a step of this key has finished here."""
        record = self.record(step)
        return record is not None and record["state"] == "done" and record["key"] == step.key

    def record(self, step: Step) -> dict[str, Any] | None:
        """What DONE.json says, whatever key it is of; None if there is none."""
        uri = self._file(step, "DONE.json")
        return storage.read_json(uri) if storage.exists(uri) else None

    def progress(self, step: Step) -> dict[str, Any] | None:
        """How far the step says it is, in its progress.json; None if it says nothing."""
        uri = self._file(step, "progress.json")
        return storage.read_json(uri) if storage.exists(uri) else None

    def finish(self, step: Step, *, seconds: float, summary: Mapping[str, Any]) -> None:
        """Mark the step as done. FencedOffError: it is for a later driver to say so."""
        uri = self._file(step, "DONE.json")
        record = {"state": "done", "reason": None, "seconds": seconds, "summary": dict(summary)}
        data = self._record(step, record)
        # Created wherever that is possible: a driver that was replaced while it stood still right before this
        # request then cannot undo the record of a later one.
        create = storage.create_exclusive if self._fence is None else self._fence.create
        replace = storage.write_bytes if self._fence is None else self._fence.write
        if not create(uri, data):
            replace(uri, data)
        storage.delete(self._file(step, "FAILED.json"))

    def fail(self, step: Step, *, seconds: float, reason: str) -> None:
        """Say why the step failed; it is run again with the next job."""
        self.check()
        record = {"state": "failed", "reason": reason, "seconds": seconds, "summary": {}}
        storage.write_bytes(self._file(step, "FAILED.json"), self._record(step, record))

    def begin(self, step: Step) -> None:
        """Make the step's folder its own, without what a step of another key has left, finished or not.

        A step that was interrupted goes on from its checkpoints, which must be those of its own settings. The
        run directory itself belongs to one pretraining alone and is never cleared.
        """
        self.check()
        if not step.output:
            return
        uri = storage.join(self.output(step), "BEGUN.json")
        begun = storage.read_json(uri) if storage.exists(uri) else {}
        if begun.get("key") != step.key:
            storage.delete_tree(self.output(step))
            storage.write_json(uri, {"step": step.name, "key": step.key})

    def check(self) -> None:
        """Raise FencedOffError if a later driver has taken over."""
        if self._fence is not None:
            self._fence.check()

    def _record(self, step: Step, record: dict[str, Any]) -> bytes:
        about = {"step": step.name, "key": step.key, "driver": self.driver}
        return json.dumps(about | record, indent=2, ensure_ascii=False).encode()

    def _file(self, step: Step, name: str) -> str:
        return storage.join(self.output(step), name)


class DriverLock:
    """One driver per run directory. A dead driver's place is taken over; a live one's is respected.

    Every driver that gets in creates drivers/NUMBER.json with the next number, which only one can, and then
    finishes what its predecessor was about to publish. Whoever holds the highest number is the driver; what
    works for it publishes through `fence`, which a later number makes impossible. On the same host a dead
    process is seen at once; elsewhere its beat has to stand still for a while, so no two clocks are ever
    compared.
    """

    def __init__(self, run_uri: str) -> None:
        self._run_uri = run_uri
        self._uri = storage.join(run_uri, "drivers")
        self._owner = {
            "host": socket.gethostname(),
            "boot": boot_id(),
            "pid": os.getpid(),
            "process_started": psutil.Process().create_time(),
            "command": " ".join(sys.argv),
            # Two drivers in one process are two.
            "id": uuid.uuid4().hex,
        }
        self._beat = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.fence = Fence(self._uri, 0)

    def __enter__(self) -> DriverLock:
        while True:
            latest = Fence(self._uri, latest_token(self._uri))
            holder = read_holder(latest.file) if latest.token else None
            if holder is not None and not holder["released"] and _is_alive(holder, latest.file):
                raise RunLockedError(_pointer(self._run_uri, holder))
            self.fence = Fence(self._uri, latest.token + 1)
            if storage.create_exclusive(self.fence.file, self._content()):
                break
        self._thread = threading.Thread(target=self._keep_beating, name="driver-lock", daemon=True)
        self._thread.start()
        try:
            self.fence.settle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        storage.write_bytes(self.fence.file, self._content(released=True))

    def _keep_beating(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            self._beat += 1
            storage.write_bytes(self.fence.file, self._content())

    def _content(self, *, released: bool = False) -> bytes:
        return json.dumps(self._owner | {"beat": self._beat, "released": released}).encode()


def _pointer(run_uri: str, holder: Mapping[str, Any]) -> str:
    return (
        f"{run_uri}: another driver works on this run: process {holder['pid']} on {holder['host']} "
        f"({holder['command']}). Nothing was started.\n"
        f"  how far it is   mae-dist status {run_uri}   (live: mae-dist watch)\n"
        "  to end it       mae-dist cancel {run_uri}\n"
        "  to replace it   stop that process, then give the same command again: it goes on from there\n"
        "  another run     --set name=..."
    )


def _is_alive(holder: dict[str, Any], uri: str) -> bool:
    lives = lives_here(holder)
    if lives is not None:
        return lives
    for _ in range(SILENT_BEATS):
        time.sleep(BEAT_SECONDS)
        now = read_holder(uri)
        if now is None or now["released"]:
            return False
        if now["beat"] != holder["beat"]:
            return True
    return False
