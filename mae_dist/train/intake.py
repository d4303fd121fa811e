"""How a loop was fed over an interval: sums over blocks, the figures that follow, and what holds it back.

    built (decode, waiting for bytes) -> ready, on its way -> arrived, copied to the device -> used

The feeding thread is at any time waiting for a block that is still being built, waiting for one that lies
finished elsewhere, copying, or ahead of the loop. Where the loop waits, the longest of the first three is
why.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
import torch.distributed as dist

REPEAT_SECONDS = 600.0
"""A stage that goes on holding the run back is named again after this long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Intake:
    """Sums over the blocks that were used in an interval; all fields add up."""

    waited_seconds: float = 0.0
    """The loop stood still."""
    building_seconds: float = 0.0
    """The feeding thread waited for a block that was not finished."""
    transport_seconds: float = 0.0
    """The feeding thread waited for a block that was finished."""
    copy_seconds: float = 0.0
    """The feeding thread copied a block to the device."""
    decodes: float = 0.0
    build_seconds: float = 0.0
    """Of all tasks that built the blocks, and what these did with it:"""
    build_cpu_seconds: float = 0.0
    read_seconds: float = 0.0
    read_bytes: float = 0.0
    fetched_bytes: float = 0.0
    requests: float = 0.0
    retries: float = 0.0

    def __add__(self, other: Intake) -> Intake:
        return Intake.of([a + b for a, b in zip(astuple(self), astuple(other), strict=True)])

    @classmethod
    def of(cls, values: list[float]) -> Intake:
        """From the values of all fields, in order."""
        return cls(**dict(zip(cls.__slots__, values, strict=True)))


def block_intake(stats: Mapping[str, Any], *, waited_seconds: float, copy_seconds: float) -> Intake:
    """Of one block (`stats`: the fields of data.stats.BlockStats) that has just been copied.

    A block that was finished before it arrived was on its way for that long. The two clocks may be of two
    machines: what they differ by is bounded by the time waited.
    """
    since_built = time.time() - copy_seconds - stats["built_at"]
    transport = min(max(since_built, 0.0), waited_seconds)
    return Intake(
        building_seconds=waited_seconds - transport,
        transport_seconds=transport,
        copy_seconds=copy_seconds,
        decodes=stats["decodes"],
        build_seconds=stats["seconds"],
        build_cpu_seconds=stats["cpu_seconds"],
        read_seconds=stats["read_seconds"],
        read_bytes=stats["read_bytes"],
        fetched_bytes=stats["fetched_bytes"],
        requests=stats["requests"],
        retries=stats["retries"],
    )


def over_ranks(intake: Intake) -> Intake:
    """The sums over all ranks; the loop's waiting is that of the rank that waited most. A collective call.

    A step is over when its last rank is done: the others wait for that one in the gradient exchange.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return intake
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    own = torch.tensor(astuple(intake), dtype=torch.float64, device=device)
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, own)
    ranks = [Intake.of(values.tolist()) for values in gathered]
    longest = max(rank.waited_seconds for rank in ranks)
    return replace(sum(ranks, Intake()), waited_seconds=longest)


def figures(intake: Intake, *, seconds: float) -> dict[str, float]:
    """What metrics.jsonl says of an interval of so many seconds.

    data_wait_share           of the time, spent waiting for data
    decoded_per_second        samples decoded
    decode_cpu_ms             CPU time per decoded sample, from its bytes to its place in the block
    decode_cpus               CPUs that building kept busy
    read_bytes_per_second
    read_share                of the time of building, waiting for bytes
    read_use                  bytes of samples per byte fetched: below 1 with gaps and repeated reads, above 1
                              where what was fetched for one block is used for others
    storage_requests, storage_retries    how many to object stores, and how many of them were repetitions
    transport_share, copy_share   of the feeding thread's time, see `Intake`; the rest is building
    """
    feeding = intake.building_seconds + intake.transport_seconds + intake.copy_seconds
    return {
        "data_wait_share": intake.waited_seconds / seconds,
        "decoded_per_second": intake.decodes / seconds,
        "decode_cpu_ms": _ratio(1000 * intake.build_cpu_seconds, intake.decodes),
        "decode_cpus": intake.build_cpu_seconds / seconds,
        "read_bytes_per_second": intake.read_bytes / seconds,
        "read_share": _ratio(intake.read_seconds, intake.build_seconds),
        "read_use": _ratio(intake.read_bytes, intake.fetched_bytes),
        "storage_requests": intake.requests,
        "storage_retries": intake.retries,
        "transport_share": _ratio(intake.transport_seconds, feeding),
        "copy_share": _ratio(intake.copy_seconds, feeding),
    }


def bottleneck(line: Mapping[str, float]) -> tuple[str, str]:
    """The stage that bounds an interval with these `figures`, and a sentence on what would help."""
    transport, copy = line["transport_share"], line["copy_share"]
    building = 1 - transport - copy
    if building >= max(transport, copy):
        if line["read_share"] > 0.5:
            requests, retries = line["storage_requests"], line["storage_retries"]
            repeated = f", {retries:,.0f} of {requests:,.0f} requests repeated" if retries else ""
            return "storage", (
                f"building a block is {line['read_share']:.0%} waiting for bytes, at "
                f"{line['read_bytes_per_second'] / 1e6:.1f} MB/s{repeated}; a nearer or faster store, "
                "samples packed into shards or more tasks at a time (data.cpus_per_task below 1) would help"
            )
        enough = line["decode_cpus"] / max(1 - line["data_wait_share"], 0.01)
        return "decode", (
            f"decoding keeps {line['decode_cpus']:.1f} CPUs busy, {line['decode_cpu_ms']:.0f} ms per sample, "
            f"and {enough:.1f} would be enough; more CPU nodes, several crops per decode "
            "(train.repeats) or samples re-encoded smaller once would help"
        )
    if transport >= copy:
        return "transport", (
            f"finished blocks are on their way for {transport:.0%} of the feeding thread's time; more blocks "
            "held ready (data.prefetch_batches), a larger object store or a faster network would help"
        )
    return "copy", (
        f"copying to the device takes {copy:.0%} of the feeding thread's time; more CPUs for the worker "
        "(resources.cpus_per_worker) would help"
    )


class WaitWatch:
    """Says which stage makes the device wait, when that takes more than a given share of the time."""

    def __init__(self, share: float) -> None:
        self._share = share
        # The first interval holds the start of the pipeline, which is no steady state.
        self._is_first = True
        self._said: dict[str, float] = {}

    def look(self, line: Mapping[str, float]) -> str | None:
        """A warning about an interval with these `figures` and "seconds", or None; rarely twice the same."""
        is_first, self._is_first = self._is_first, False
        if is_first or line["data_wait_share"] <= self._share:
            return None
        stage, advice = bottleneck(line)
        last = self._said.get(stage)
        if last is not None and line["seconds"] - last < REPEAT_SECONDS:
            return None
        self._said[stage] = line["seconds"]
        return (
            f"waiting for data took {line['data_wait_share']:.0%} of the time, more than "
            f"log.data_wait_warning ({self._share:.0%}). Bounded by {stage}: {advice}."
        )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
