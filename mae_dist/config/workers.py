"""How many workers train together: a number, or a range that a training may move in while it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mae_dist.config.problems import shown


@dataclass(frozen=True, slots=True)
class WorkerRange:
    """From `least` to `most` workers; the same number twice is a fixed size."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"[{self.least}, {self.most}]" if self.is_elastic else str(self.least)

    @property
    def is_elastic(self) -> bool:
        """Whether the number may change while a training runs."""
        return self.least < self.most


def parse_workers(given: Any) -> WorkerRange:
    """Read 4 or [2, 8]; a WorkerRange passes through. Raises ValueError on anything else."""
    if isinstance(given, WorkerRange):
        return given
    ends = list(given) if isinstance(given, list | tuple) else [given, given]
    # To Python true is a number too.
    if any(type(end) is not int for end in ends) or len(ends) != 2 or not 0 < ends[0] <= ends[1]:
        raise ValueError(
            f"must be a number of workers, like 4, or the least and the most, like [2, 8], got {shown(given)}"
        )
    return WorkerRange(*ends)


def plain_workers(workers: WorkerRange) -> int | list[int]:
    """As a recipe has it."""
    return [workers.least, workers.most] if workers.is_elastic else workers.least


def worker_counts(*, global_batch: int, micro_batch: int) -> list[int]:
    """Worker counts that divide the global batch: those w with global_batch % (micro_batch * w) == 0."""
    return [] if global_batch % micro_batch else divisors(global_batch // micro_batch)


def divisors(number: int) -> list[int]:
    """In order, from 1 to the number itself."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})
