"""A length of training that carries its unit: "800 epochs" or "300 steps"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Duration:
    """So many epochs (passes over the catalog, see SourceConfig for mixes) or so many steps (optimiser
    updates)."""

    value: float
    unit: Literal["epochs", "steps"]

    def __str__(self) -> str:
        return f"{format(Decimal(repr(self.value)).normalize(), 'f')} {self.unit}"  # every digit, no exponent

    def steps(self, *, samples_per_epoch: int, global_batch: int) -> int:
        """Optimiser updates, rounded to the nearest one: epochs * samples_per_epoch / global_batch."""
        if self.unit == "steps":
            return round(self.value)
        return round(self.value * samples_per_epoch / global_batch)


def parse_duration(given: Any) -> Duration:
    """Read "20 epochs" or "300 steps"; a Duration passes through. Raises ValueError on anything else."""
    if isinstance(given, Duration):
        return given
    match = (
        re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(epochs?|steps?)\s*", given) if isinstance(given, str) else None
    )
    if match is None:
        raise ValueError(
            f"a duration is a number and its unit, like '20 epochs' or '300 steps', got {given!r}"
        )
    unit: Literal["epochs", "steps"] = "epochs" if match[2].startswith("epoch") else "steps"
    value = float(match[1])
    if unit == "steps" and not value.is_integer():
        raise ValueError(f"steps must be a whole number, got {given!r}")
    return Duration(value, unit)
