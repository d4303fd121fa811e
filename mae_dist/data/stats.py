"""What building a block took: a few numbers that travel with the block and are summed where it is used."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from mae_dist import storage
from mae_dist.data.decoder import Decoder

Data = TypeVar("Data")


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockStats:
    """One block's share of the work; says nothing about its content."""

    decodes: int
    """Encoded samples that were read and handed to the decoder."""
    seconds: float
    """From the first request to the finished arrays."""
    cpu_seconds: float
    """Of this process, all its threads and the one that decodes for it."""
    read_seconds: float
    """Of `seconds`, in which nothing was decoded because the bytes were not there yet."""
    read_bytes: int
    """Of the encoded samples."""
    fetched_bytes: int
    """That storage handed out for them: with gaps between samples and what was read twice, without what was
    in memory already."""
    requests: int
    """To object stores, repeated ones included."""
    retries: int
    """Repetitions of what failed or brought damaged bytes."""
    built_at: float
    """When the block was finished, in seconds since 1970 on the clock of the machine that built it."""


class BlockMeter:
    """Measures one block, which `decoder` decodes, from now on; a process builds one block at a time."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._started, self._cpu_started = time.perf_counter(), cpu_seconds(decoder.pid)
        self._traffic_before = storage.counters()
        self._decodes = self._read_bytes = 0
        self._read_seconds = 0.0

    def reading(self, samples: Iterable[Data]) -> Iterator[Data]:
        """The same items; waiting for them counts as reading, and their bytes as read."""
        iterator = iter(samples)
        while True:
            asked = time.perf_counter()
            try:
                sample = next(iterator)
            except StopIteration:
                return
            finally:
                self._read_seconds += time.perf_counter() - asked
            if isinstance(sample, bytes):  # or the error that stands in its place
                self._read_bytes += len(sample)
                self._decodes += 1
            yield sample

    def stats(self) -> BlockStats:
        """The figures of the block that is finished now."""
        before, now = self._traffic_before, storage.counters()
        return BlockStats(
            decodes=self._decodes,
            seconds=time.perf_counter() - self._started,
            cpu_seconds=cpu_seconds(self._decoder.pid) - self._cpu_started,
            read_seconds=self._read_seconds,
            read_bytes=self._read_bytes,
            fetched_bytes=now.bytes_read - before.bytes_read,
            requests=now.requests - before.requests,
            retries=now.retries - before.retries,
            built_at=time.time(),
        )


def cpu_seconds(child: int | None) -> float:
    """CPU time so far of this process, of the living child with this process id, and of those that ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    if child is not None:
        with suppress(OSError):  # it ended meanwhile
            total += time.clock_gettime(_cpu_clock(child))
    return total


def _cpu_clock(pid: int) -> int:
    """The clock of a process's CPU time, as clock_getcpuclockid(3) numbers it on Linux."""
    return (~pid << 3) | 2
