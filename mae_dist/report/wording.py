"""How numbers are written for people. A number that is not known is an em dash."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeGuard

UNKNOWN = "—"
_MINUS = "−"


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a finite number (a diverged run logs NaN)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def count(value: float | None) -> str:
    """1234567 -> "1,234,567"."""
    return f"{value:,.0f}" if is_number(value) else UNKNOWN


def decimal(value: float | None, places: int = 1) -> str:
    """-1.25 -> "−1.2", with a real minus sign."""
    return f"{value:,.{places}f}".replace("-", _MINUS) if is_number(value) else UNKNOWN


def signed(value: float | None, places: int = 1) -> str:
    """1.25 -> "+1.2", so that a gain reads as one."""
    return f"{value:+,.{places}f}".replace("-", _MINUS) if is_number(value) else UNKNOWN


def significant(value: float | None, digits: int = 3) -> str:
    """0.0123456 -> "0.0123", 0.00001 -> "1e−05"."""
    return f"{value:.{digits}g}".replace("-", _MINUS) if is_number(value) else UNKNOWN


def places_for(values: Iterable[float | None], digits: int = 3) -> int:
    """Decimals at which the smallest of several numbers shows `digits` digits, so that they line up."""
    smallest = min((abs(value) for value in values if is_number(value) and value), default=1.0)
    return max(0, digits - 1 - math.floor(math.log10(smallest)))


def about(value: float) -> str:
    """Two leading digits, written out: 12345.6 -> "12,000", 1.234 -> "1.2"."""
    return f"{float(f'{value:.2g}'):,.12g}"


def percent(share: float | None, places: int = 1) -> str:
    """0.031 -> "3.1 %"."""
    return f"{decimal(100 * share, places)} %" if is_number(share) else UNKNOWN


def rate(value: float | None) -> str:
    """Samples per second: whole ones above 100, else three digits."""
    return count(value) if is_number(value) and value >= 100 else significant(value)


def interval(ends: Sequence[float]) -> str:
    """[65.9, 73.7]."""
    low, high = ends
    return f"[{decimal(low)}, {decimal(high)}]"


def duration(seconds: float | None) -> str:
    """4.2 -> "4.2 s", 250 -> "4 min 10 s", 9000 -> "2 h 30 min", 200000 -> "2 d 8 h"."""
    if not is_number(seconds):
        return UNKNOWN
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for unit, part, unit_seconds, part_seconds in [("d", "h", 86400, 3600), ("h", "min", 3600, 60)]:
        if whole >= unit_seconds:
            return _two_parts(whole // unit_seconds, unit, whole % unit_seconds // part_seconds, part)
    return _two_parts(whole // 60, "min", whole % 60, "s")


def _two_parts(first: int, unit: str, second: int, part: str) -> str:
    return f"{first} {unit} {second} {part}" if second else f"{first} {unit}"


def plural(number: int, noun: str) -> str:
    """(1, "step") -> "1 step", (2000, "step") -> "2,000 steps"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def label(identifier: str) -> str:
    """A protocol's or metric's name in running text: linear_probe -> "Linear probe".

    finetune.sketch, an evaluation on another test set, is "Fine-tuning on sketch".
    """
    name, dot, test_set = identifier.partition(".")
    if dot:
        return f"{label(name)} on {test_set}"
    words = LABELS.get(identifier) or identifier.replace("_", " ").replace("-", " ")
    # "kNN" is written so wherever it stands.
    return words if words[1:2].isupper() else words[:1].upper() + words[1:]


LABELS = {
    "finetune": "fine-tuning",
    "detect": "action detection",
    "feature_probe": "linear probe on kept features",
    "attentive_probe": "attentive probe on kept tokens",
    "knn": "kNN",
    "top1": "top-1",
    "top5": "top-5",
    "frame_map": "frame mAP",
    "videomae": "VideoMAE",
    "mae": "MAE",
}
