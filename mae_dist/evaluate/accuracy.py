"""From counts of right answers to numbers that can be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def standard_error(share: float, num_samples: int) -> float:
    """Standard error of a share of `num_samples` independent answers: sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / num_samples)


def interval(share: float, num_samples: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of a share of `num_samples` independent answers; lies in [0, 1]."""
    z, n = 1.959964, num_samples
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def accuracy(scores: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Top-1 and top-5 in percent, over all samples and by class, from counts as `scores.plain` gives them.

    `interval` and `top5_interval` are the 95 % confidence intervals of the two. `single_view` is the top-1 of
    one view alone, in the mean over the views. `confusion` has the most frequent mistakes, None where they
    were not counted. Raises ValueError when nothing was counted.
    """
    total = sum(scores["total"])
    if not total:
        raise ValueError("no sample was scored; the test catalog has no labelled sample that could be read")
    top1, top5 = (sum(scores[name]) / total for name in ("correct", "correct5"))
    return {
        "metric": "top1",
        "value": 100 * top1,
        "standard_error": 100 * standard_error(top1, int(total)),
        "interval": [100 * end for end in interval(top1, int(total))],
        "top5": 100 * top5,
        "top5_interval": [100 * end for end in interval(top5, int(total))],
        "single_view": 100 * sum(scores["correct_views"]) / total,
        "num_samples": int(total),
        "per_class": [
            {"class": name, "correct": int(correct), "total": int(count)}
            for name, correct, count in zip(classes, scores["correct"], scores["total"], strict=True)
        ],
        "confusion": mistakes(scores["mistakes"], classes),
    }


def mistakes(
    counted: Sequence[Sequence[int]] | None, classes: Sequence[str]
) -> list[dict[str, str | int]] | None:
    """(label, answer, how often) with the names of the classes."""
    if counted is None:
        return None
    return [
        {"class": classes[label], "predicted": classes[answer], "count": count}
        for label, answer, count in counted
    ]
