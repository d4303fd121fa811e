"""A deadline for every wait of a worker: one that stands still writes down where, and is started again.

A rank that has died or hangs makes all others wait, in a collective that no exception reaches. So each worker
has a thread that counts from the last finished step:

    deadline passed      the stacks of all threads -> stacks/<attempt>-rank-<rank>.txt
    a rank on this host  that is stopped by a signal can neither write nor end: what is seen of it is noted
    a little later       (other ranks write too) it is killed, this process ends, Ray starts the group again
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar

import psutil
import torch.distributed as dist

from mae_dist import storage
from mae_dist.config.resilience import WatchConfig

log = logging.getLogger(__name__)
T = TypeVar("T")

EXIT_STATUS = 75
"""Of a process that was ended here ("temporary failure" in sysexits.h)."""
WRITE_SECONDS = 10.0
"""Storage may be what hangs, so that the stacks are given up after so long; stderr has them too."""
OTHERS_SECONDS = 3.0
"""For the other ranks to write theirs: they have waited as long, but for the length of a step."""
LOOK_SECONDS = 1.0


class Watchdog:
    """Ends this process when no `beat` comes in time; use it as a context manager around what may hang.

    Stacks go into the folder `uri` under `name`. `neighbours` are the other ranks' processes on this host, by
    the names of theirs.
    """

    def __init__(
        self, config: WatchConfig, *, uri: str, name: str, neighbours: Mapping[str, psutil.Process]
    ) -> None:
        self._config, self._uri, self._name, self._neighbours = config, uri, name, neighbours
        self._num_beats = 0
        self._last = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._last = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()

    def beat(self) -> None:
        """Something was finished: the time allowed begins anew."""
        self._last = time.monotonic()
        self._num_beats += 1

    def beats_over(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches, with a beat when each is asked for."""
        for batch in batches:
            self.beat()
            yield batch

    def _watch(self) -> None:
        while True:
            config = self._config
            allowed = config.step_seconds if self._num_beats else config.first_step_seconds
            waited = time.monotonic() - self._last
            if waited >= allowed:
                break
            if self._over.wait(min(allowed - waited, LOOK_SECONDS)):
                return
        field = "step_seconds" if self._num_beats else "first_step_seconds"
        reason = f"no step was finished within {allowed:g} s (watch.{field}), {self._num_beats} before that"
        self._write(self._name, f"{reason}\n\n{stacks()}")
        stopped = {name: process for name, process in self._neighbours.items() if _is_stopped(process)}
        for name, process in stopped.items():
            self._write(name, f"{reason}: process {process.pid} is stopped by a signal\n\n{_seen(process)}")
        # Not killed before: the others' collective then fails at once, and they could not write any more.
        time.sleep(OTHERS_SECONDS)
        for process in stopped.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        os._exit(EXIT_STATUS)

    def _write(self, name: str, text: str) -> None:
        uri = storage.join(self._uri, f"{name}.txt")
        log.error("%s: %s", uri, text)
        writing = threading.Thread(target=storage.write_bytes, args=(uri, text.encode()), daemon=True)
        writing.start()
        writing.join(WRITE_SECONDS)


def stacks() -> str:
    """Where every thread of this process is, the watchdog's own left out."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = [
        f"thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
        if ident != threading.get_ident()
    ]
    return "\n".join(parts)


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


def _seen(process: psutil.Process) -> str:
    """State of the process and of its threads, as far as the system shows them (Linux)."""
    shown = []
    for file in ("status", "wchan", "stack"):
        with contextlib.suppress(OSError), open(f"/proc/{process.pid}/{file}") as content:
            shown.append(f"{file}: {content.read()}")
    return "\n".join(shown)


def name_of(attempt: str, rank: int) -> str:
    """What a rank's stacks and ledger are called in one life of its worker group."""
    return f"{attempt}-rank-{rank:05d}"


def find_neighbours(attempt: str) -> dict[str, psutil.Process]:
    """The other ranks' processes on this host, by the name of their stacks; a collective call."""
    own = psutil.Process()
    about: tuple[Any, ...] = (socket.gethostname(), own.pid, own.create_time())
    told: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(told, about)
    found = {}
    for rank, (host, pid, created) in enumerate(told):
        if rank == dist.get_rank() or host != about[0]:
            continue
        # Two containers may share a host's name, but then hardly a process's number and its second.
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.create_time() == created:
                found[name_of(attempt, rank)] = process
    return found
