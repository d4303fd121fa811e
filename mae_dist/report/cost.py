"""What a run has taken of the machines, as plain data for report.json.

cpu_hours, gpu_hours     reserved, whether they were busy or not: CPUs and GPUs of each attempt times its
                  length. lost_cpu_hours, lost_gpu_hours: of these, in attempts that failed or were
                  cancelled; what a training had saved by then is not lost, and counted here all the same.
wall_seconds      from the first attempt's beginning to the last one's end; busy_seconds: of these, with at
                  least one attempt at work.
by_step           [{"name", "attempts", "seconds", "cpu_hours", "gpu_hours"}], the most expensive first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Attempt = Mapping[str, Any]

_LOST = {"failed", "cancelled"}


def cost(job: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The fields listed at the top of this file, from the attempts of `attempts.job`; None without any."""
    if job is None or not job["attempts"]:
        return None
    attempts, now = job["attempts"], job["written"]
    spans = [span(attempt, now) for attempt in attempts]
    by_step: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_step.setdefault(attempt["name"], []).append(attempt)
    rows = [
        {"name": name, "attempts": len(its), "seconds": _seconds(its, now), **_hours(its, now)}
        for name, its in by_step.items()
    ]
    lost = _hours([attempt for attempt in attempts if attempt["state"] in _LOST], now)
    return {
        **_hours(attempts, now),
        **{f"lost_{name}": hours for name, hours in lost.items()},
        "wall_seconds": max(end for _, end in spans) - min(start for start, _ in spans),
        "busy_seconds": math.fsum(end - start for start, end in stretches(spans)),
        "by_step": sorted(rows, key=lambda row: (-row["gpu_hours"], -row["cpu_hours"], -row["seconds"])),
    }


def span(attempt: Attempt, now: float) -> tuple[float, float]:
    """(beginning, end) of an attempt in seconds since 1970; `now` is the end of one that has none."""
    start, end = attempt["started"], attempt["ended"]
    return start, max(start, now if end is None else end)


def stretches(spans: Iterable[tuple[float, float]], *, gap: float = 0.0) -> list[tuple[float, float]]:
    """The union of spans in order; those at most `gap` apart become one."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _seconds(attempts: Iterable[Attempt], now: float) -> float:
    return math.fsum(end - start for start, end in (span(attempt, now) for attempt in attempts))


def _hours(attempts: Sequence[Attempt], now: float) -> dict[str, float]:
    spans = [(attempt, *span(attempt, now)) for attempt in attempts]
    return {
        name: math.fsum((attempt[held] or 0) * (end - start) for attempt, start, end in spans) / 3600
        for name, held in (("cpu_hours", "cpus"), ("gpu_hours", "gpus"))
    }
