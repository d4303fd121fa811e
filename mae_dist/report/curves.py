"""Figures over the steps of a training, short enough for a page, as plain data for report.json.

pretraining       {"loss", "lr", "grad_norm", "samples_per_second", "data_wait_share"}, each a curve or null.
evaluations       [{"name", "start_from", "metric", "loss", "value"}]; loss: a curve; value: one of the metric
                  while it was trained, or null.

A curve is {"step", "mean", "low", "high"}, lists of equal length: one point per logged line and null for low
and high, or, of more than MAX_POINTS lines, one per stretch of them with its mean, smallest and largest
value. A value that was not finite is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mae_dist.report.evaluations import evaluation_of
from mae_dist.report.run_files import RunFiles
from mae_dist.report.wording import is_number

Curve = Mapping[str, Any]

MAX_POINTS = 300
PRETRAINING = ("loss", "lr", "grad_norm", "samples_per_second", "data_wait_share")
_DIGITS = 6


def curves(run: RunFiles, evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The fields listed at the top of this file; `evaluations` are the report's, for order and metric."""
    metrics = {entry["name"]: entry["metric"] for entry in evaluations}
    trained = []
    for files in run.evaluations:
        name, start = evaluation_of(files)
        loss = curve(files.metrics, "loss")
        if loss is not None:
            value = curve(files.metrics, metrics[name])
            trained.append(
                {"name": name, "start_from": start, "metric": metrics[name], "loss": loss, "value": value}
            )
    places = {name: place for place, name in enumerate(metrics)}
    return {
        "pretraining": {field: curve(run.metrics, field) for field in PRETRAINING},
        "evaluations": sorted(trained, key=lambda its: places[its["name"]]),
    }


def curve(lines: Sequence[Mapping[str, Any]], field: str) -> dict[str, Any] | None:
    """One field of the lines of metrics.jsonl over their steps; None with fewer than two points."""
    points = [(line["step"], line[field]) for line in lines if is_number(line.get(field))]
    if len(points) < 2:
        return None
    if len(points) <= MAX_POINTS:
        steps, values = zip(*points, strict=True)
        return {"step": list(steps), "mean": [_rounded(value) for value in values], "low": None, "high": None}
    # Equally long ones, because the mean of fewer values looks noisier.
    length = math.ceil(len(points) / MAX_POINTS)
    values = np.array(points, dtype=np.float64)
    stretches = [values[start : start + length] for start in range(0, len(values), length)]
    return {
        "step": [int(stretch[-1, 0]) for stretch in stretches],
        "mean": [_rounded(stretch[:, 1].mean()) for stretch in stretches],
        "low": [_rounded(stretch[:, 1].min()) for stretch in stretches],
        "high": [_rounded(stretch[:, 1].max()) for stretch in stretches],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
