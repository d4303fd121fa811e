"""The process in which samples are decoded: it does what it is told, and may be killed at any time.

Encoded samples and finished pixels lie in memory shared with the parent, the arena:

    int64: number of the job at work | encoded bytes of the jobs ... | pixels of the jobs ...

Over a socket comes what to do, (function, Spec), which is answered with None or a text; and then what to
do it with, (size of the arena, jobs), which is answered with (number, reason) for each job that fails and at
last with None or a text. A text is a traceback: something is wrong that is not the sample's.

The process has one thread. It imports no ray, and torch only for RandAugment and large images. Linux only:
the kernel itself ends it when it uses too much CPU time or when its parent is gone, and so even in the midst
of a codec that never returns.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import numpy as np

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.limits import DecodeError
from mae_dist.data.views import Request


class Spec(Protocol):
    """What to do with all samples alike; not a list. `views.ViewSpec`, `audit.facts.FactSpec`."""

    @property
    def limits(self) -> DecodeLimits:
        """What one sample may cost."""
        ...

    def prepare(self) -> None:
        """Load what the function will need, so that no sample is charged for it."""
        ...


Decode = Callable[[Request, Any, np.ndarray], None]
"""(request, Spec, array): fills the array, uint8, with what is wanted of the sample, or raises DecodeError;
`views.decode_views` for pixels, `audit.facts.find_facts`."""

AT_WORK = struct.Struct("q")
"""The head of the arena."""
KILLED_BEYOND = 1.25
"""The kernel's limit on CPU time, as a multiple of the one that decoders look at themselves."""


class Job(NamedTuple):
    """One sample in the arena."""

    start: int
    end: int
    """Bytes [start, end) of the arena are the encoded sample."""
    media: str
    sample: int
    epochs: tuple[int, ...]
    time: float | None
    pixels: int
    """Where the pixels go: the offset of an array of `shape`."""
    shape: tuple[int, ...]


def main() -> None:
    """Serve the parent until it closes the socket; argv: descriptors of the arena, socket and lifeline."""
    arena, socket, lifeline = (int(number) for number in sys.argv[1:])
    _end_with(lifeline)
    # Ctrl-C in a terminal reaches the whole group; the parent decides what becomes of this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Connection(socket) as parent:
        try:
            _serve(parent, arena)
        except (EOFError, ConnectionError):
            return  # the parent is gone


def _serve(parent: Connection, arena: int) -> None:
    decode, spec = _prepared(parent, *parent.recv())
    shared = mmap.mmap(arena, 0)
    while True:
        first, second = parent.recv()
        if not isinstance(second, list):
            decode, spec = _prepared(parent, first, second)
            continue
        if len(shared) != first:
            shared = mmap.mmap(arena, first)
        parent.send(_work(parent, shared, second, decode, spec))


def _prepared(parent: Connection, decode: Decode, spec: Spec) -> tuple[Decode, Spec]:
    """Answer with None, or with what is wrong."""
    try:
        _limit_memory(None)
        spec.prepare()
        _limit_memory(spec.limits.memory)
    except Exception:
        parent.send(traceback.format_exc())
    else:
        parent.send(None)
    return decode, spec


def _work(parent: Connection, arena: mmap.mmap, jobs: list[Job], decode: Decode, spec: Spec) -> str | None:
    """Do the jobs; None, or a traceback where a failure is not the sample's."""
    for number, job in enumerate(jobs):
        AT_WORK.pack_into(arena, 0, number)
        request = Request(arena[job.start : job.end], job.media, job.sample, job.epochs, job.time)
        # Counts the time of this process on a CPU; what it does at the end, nobody can catch or delay.
        signal.setitimer(signal.ITIMER_PROF, spec.limits.seconds * KILLED_BEYOND)
        try:
            decode(request, spec, np.ndarray(job.shape, np.uint8, arena, job.pixels))
        except DecodeError as error:
            parent.send((number, str(error)))
        except MemoryError:
            parent.send((number, f"decoding takes more than {spec.limits.memory:,} bytes of memory"))
        except Exception:
            return traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def _end_with(lifeline: int) -> None:
    """Let the kernel end this process when nobody holds the other end of the pipe any more.

    Nothing is ever written to it. PR_SET_PDEATHSIG would end it with the thread that started it.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _limit_memory(extra: int | None) -> None:
    """Let private memory grow by `extra` bytes (None: freely); allocations beyond that fail."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = hard
    if extra is not None:
        with open("/proc/self/status") as status:
            [used] = [int(line.split()[1]) << 10 for line in status if line.startswith("VmData:")]
        limit = used + extra if hard == resource.RLIM_INFINITY else min(used + extra, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
