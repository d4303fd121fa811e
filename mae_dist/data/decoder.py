"""Decoding where it can be killed: a codec that hangs or crashes costs one sample, never the worker.

Each process that builds blocks has one child that decodes for it (`decoder_child.py`). Samples go there a few
at a time through shared memory, and their pixels come back the same way.

    the child                              the sample
    takes more than its CPU time           is given up; the kernel kills the child
    sleeps in the middle of it, or dies    is tried once more in a new child, then given up

CPU time and sleep instead of a deadline: a sample must not be given up because the machine is busy, since the
stream may not depend on it. A child that is ready to run, or waits for a page, does not count as asleep; one
that was killed from outside loses nothing. Linux only: memfd, /proc and the kernel's CPU timers.
"""

from __future__ import annotations

import atexit
import logging
import mmap
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np

from mae_dist.data.decoder_child import AT_WORK, Decode, Job, Spec
from mae_dist.data.limits import DecodeError
from mae_dist.data.views import Request, decode_views

_MAIN = "from mae_dist.data.decoder_child import main; main()"
_HEAD_BYTES = 64
_GROUP_BYTES = 4 << 20
"""Encoded bytes and pixels that go to the child at once: enough to make the round trip cheap."""
_GROUP_REQUESTS = 256
"""A message about more would not fit into the socket, and sending it could block."""
_KEPT_BYTES = 32 << 20
"""What one sample needed beyond this is given back to the system."""
_LOOK_SECONDS = 0.5
_LOOKS_ASLEEP = 6
"""Looks in a row at which the child slept and had used no CPU time: it hangs."""
_START_SECONDS = 300.0
"""Python and its libraries may lie on a slow network disk."""

log = logging.getLogger(__name__)


class DecoderError(RuntimeError):
    """The decoding process does not work, for a reason that is not the sample's."""


def process_decoder(decode: Decode = decode_views) -> Decoder:
    """The decoder of this process for this function; a forked process gets its own."""
    return _decoder_of(os.getpid(), decode)


@cache
def _decoder_of(pid: int, decode: Decode) -> Decoder:
    decoder = Decoder(decode)
    atexit.register(decoder.close)
    return decoder


class Decoder:
    """Decodes samples in a child process, which is started when it is first needed. Safe in threads."""

    def __init__(self, decode: Decode = decode_views) -> None:
        if sys.platform != "linux":
            raise DecoderError(f"decoding in a process that can be killed needs Linux, not {sys.platform}")
        self._function = decode
        self._lock = threading.Lock()
        self._arena = Arena()
        self._child: _Child | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the child, None while there is none."""
        return None if self._child is None else self._child.process.pid

    def decode(
        self, requests: Iterable[Request | DecodeError], spec: Spec, views_MKTHWC: np.ndarray
    ) -> list[DecodeError | None]:
        """Fill `views_MKTHWC`, uint8, with the views of M requests; for each None or what is wrong with it.

        A DecodeError in place of a request is handed on. Pixels of what is wrong are undefined. Raises
        DecoderError, and whatever the iterable raises.
        """
        outcomes: list[DecodeError | None] = []
        for group in _groups(requests, views_MKTHWC[0].nbytes):
            with self._lock:
                start = len(outcomes)
                outcomes += self._decode_group(group, spec, views_MKTHWC[start : start + len(group)])
        return outcomes

    def close(self) -> None:
        """End the child; the next sample starts another one."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _decode_group(
        self, group: list[Request | DecodeError], spec: Spec, views_MKTHWC: np.ndarray
    ) -> list[DecodeError | None]:
        outcomes = [item if isinstance(item, DecodeError) else None for item in group]
        todo, pixels = self._arena.place(group, views_MKTHWC)
        tried: int | None = None
        try:
            while todo:
                try:
                    child = self._ready_child(spec)
                    self._arena.at_work = 0
                    for number, reason in child.work(self._arena.size, [job for _, job in todo]):
                        outcomes[todo[number][0]] = DecodeError(reason)
                    todo = []
                except _LostError as lost:
                    self.close()
                    todo = todo[self._arena.at_work :]
                    if lost.again and tried != todo[0][0]:
                        tried = todo[0][0]
                        log.warning("%s; a new one tries the sample again", lost)
                    else:
                        outcomes[todo.pop(0)[0]] = DecodeError(str(lost))
        except BaseException:
            self.close()  # it may be in the middle of something
            raise
        views_MKTHWC[:] = pixels
        self._arena.shrink()
        return outcomes

    def _ready_child(self, spec: Spec) -> _Child:
        if self._child is None:
            self._child = _Child(self._arena.descriptor)
        self._child.prepare(self._function, spec)
        return self._child


class Arena:
    """The memory that a decoder shares with its child; its layout is told in `decoder_child.py`."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("decoder")
        os.ftruncate(self.descriptor, _HEAD_BYTES)
        self._map = mmap.mmap(self.descriptor, _HEAD_BYTES)

    def __del__(self) -> None:
        os.close(self.descriptor)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._map)

    @property
    def at_work(self) -> int:
        """The number of the job that the child has begun last."""
        return AT_WORK.unpack_from(self._map)[0]

    @at_work.setter
    def at_work(self, number: int) -> None:
        AT_WORK.pack_into(self._map, 0, number)

    def place(
        self, group: list[Request | DecodeError], views_MKTHWC: np.ndarray
    ) -> tuple[list[tuple[int, Job]], np.ndarray]:
        """Lay out a group: its jobs with their indices, and the array that will hold all pixels."""
        encoded = sum(len(item.data) for item in group if isinstance(item, Request))
        pixels = -(-(_HEAD_BYTES + encoded) // _HEAD_BYTES) * _HEAD_BYTES
        if self.size < pixels + views_MKTHWC.nbytes:
            os.ftruncate(self.descriptor, pixels + views_MKTHWC.nbytes)
            self._map = mmap.mmap(self.descriptor, pixels + views_MKTHWC.nbytes)
        jobs, start = [], _HEAD_BYTES
        for index, item in enumerate(group):
            if isinstance(item, Request):
                end = start + len(item.data)
                self._map[start:end] = item.data
                place = pixels + index * views_MKTHWC[0].nbytes
                jobs.append((index, Job(start, end, *item[1:], place, views_MKTHWC.shape[1:])))
                start = end
        return jobs, np.ndarray(views_MKTHWC.shape, np.uint8, self._map, pixels)

    def shrink(self) -> None:
        """Give the memory of an unusually large group back to the system."""
        if self.size > _KEPT_BYTES:
            self._map.madvise(mmap.MADV_REMOVE)


class _LostError(Exception):
    """The child did not survive a job; `again`: another one may."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


class _Child:
    """A running child and the parent's end of what connects them."""

    def __init__(self, arena: int) -> None:
        self._connection, theirs = Pipe()
        lifeline, self._lifeline = os.pipe()
        passed = (arena, theirs.fileno(), lifeline)
        # Spawned, because this process has threads. More threads of a library would only be in the way.
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, *map(str, passed)],
            stdin=subprocess.DEVNULL,
            pass_fds=passed,
            env=environment,
        )
        theirs.close()
        os.close(lifeline)
        self._prepared: tuple[Decode, Spec] | None = None
        self._seconds = 0.0

    def prepare(self, decode: Decode, spec: Spec) -> None:
        """Tell the child what to do with samples; raises DecoderError if it cannot."""
        if self._prepared == (decode, spec):
            return
        try:
            self._connection.send((decode, spec))
            if not self._connection.poll(_START_SECONDS):
                raise DecoderError(f"the decoding process was not ready within {_START_SECONDS:g} s")
            trouble = self._connection.recv()
        except (EOFError, ConnectionError):
            self.kill()
            raise DecoderError(
                f"the decoding process ended before it was ready (exit code {self.process.returncode}); "
                f"what it wrote stands above, or in the log of this worker"
            ) from None
        if trouble is not None:
            raise DecoderError(f"the decoding process cannot be prepared:\n{trouble}")
        self._prepared, self._seconds = (decode, spec), spec.limits.seconds

    def work(self, arena_size: int, jobs: Sequence[Job]) -> Iterator[tuple[int, str]]:
        """Number and reason of each job that fails; returns when all are done. Raises _LostError."""
        try:
            self._connection.send((arena_size, jobs))
            while (message := self._receive()) is not None:
                if isinstance(message, str):
                    raise DecoderError(f"decoding failed for a reason that is not the sample's:\n{message}")
                yield message
        except (EOFError, ConnectionError):
            self.kill()
            raise self._loss() from None

    def kill(self) -> None:
        """End the child at once."""
        self.process.kill()
        self.process.wait()
        self._connection.close()
        if self._lifeline >= 0:
            os.close(self._lifeline)
        self._lifeline = -1

    def _receive(self) -> Any:
        """The next message; without the GIL while there is none."""
        looks, seconds_before = 0, -1.0
        while not self._connection.poll(_LOOK_SECONDS):
            is_awake, seconds = _activity(self.process.pid)
            looks = 0 if is_awake or seconds != seconds_before else looks + 1
            seconds_before = seconds
            if looks == _LOOKS_ASLEEP:
                slept = _LOOKS_ASLEEP * _LOOK_SECONDS
                raise _LostError(f"the decoder hung: it slept for {slept:g} s", again=True)
        return self._connection.recv()

    def _loss(self) -> _LostError:
        code = self.process.returncode
        if code == -signal.SIGPROF:
            return _LostError(f"decoding took more than {self._seconds:g} s of CPU time", again=False)
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return _LostError(f"the decoder crashed, {how}", again=True)


def _activity(pid: int) -> tuple[bool, float]:
    """Whether a thread of the process runs, would run or waits for a page; CPU time so far in clock ticks."""
    is_awake, ticks = False, 0
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):  # a thread may end meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            is_awake |= fields[0] in "RD"
            ticks += int(fields[11]) + int(fields[12])
    return is_awake, ticks


def _groups(
    requests: Iterable[Request | DecodeError], view_bytes: int
) -> Iterator[list[Request | DecodeError]]:
    """Consecutive requests whose bytes and pixels fill _GROUP_BYTES, at most _GROUP_REQUESTS."""
    group, size = [], 0
    for request in requests:
        group.append(request)
        size += view_bytes + (len(request.data) if isinstance(request, Request) else 0)
        if size >= _GROUP_BYTES or len(group) == _GROUP_REQUESTS:
            yield group
            group, size = [], 0
    if group:
        yield group
