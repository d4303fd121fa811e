"""Errors on corrupted images, and ImageNet-C's summary of them: the mean corruption error (arXiv 1903.12261).

Letters: E error on one corruption at one severity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ALEXNET_ERRORS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's on the 15 corruptions that count, in the mean over severities, by which others are divided."""
SEVERITIES = (1, 2, 3, 4, 5)

Counts = Mapping[tuple[str, int], tuple[int, int]]
"""(right answers, samples) by corruption and severity."""


def corruption_errors(counts: Counts) -> dict[str, Any]:
    """Errors in percent: `mean_error` over corruptions of the mean over severities, and each in `table`.

    `mean_corruption_error` is the mean over ImageNet-C's corruptions of sum(E) / sum(E of AlexNet), None
    unless all of them are there at all severities; other corruptions stand in the table alone.
    """
    errors: dict[str, dict[int, float]] = {}
    for (corruption, severity), (right, total) in sorted(counts.items()):
        errors.setdefault(corruption, {})[severity] = 100 * (1 - right / total)
    means = {corruption: sum(its.values()) / len(its) for corruption, its in errors.items()}
    is_whole = all(tuple(errors.get(corruption, ())) == SEVERITIES for corruption in ALEXNET_ERRORS)
    relative = [means[name] / alexnet for name, alexnet in ALEXNET_ERRORS.items()] if is_whole else []
    return {
        "mean_corruption_error": sum(relative) / len(relative) if relative else None,
        "mean_error": sum(means.values()) / len(means),
        "table": [
            {"corruption": corruption, "error": means[corruption], "by_severity": its}
            for corruption, its in errors.items()
        ],
    }
