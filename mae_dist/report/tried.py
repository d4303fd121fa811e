"""The part of an evaluation that shows what it chose from: heads of a probe, neighbours of kNN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mae_dist.report import wording
from mae_dist.report.blocks import table
from mae_dist.report.markup import Html, join, tag

ROWS_SHOWN = 12
"""report.json has all."""
_COLUMNS = {
    "layer": "Layer",
    "pool": "Pooling",
    "base_lr": "Learning rate",
    "weight_decay": "Weight decay",
    "neighbours": "Neighbours",
}
_VALIDATION = "Held-out accuracy, %"


def tried(entry: Mapping[str, Any]) -> Html | None:
    """A table for an entry of the report's evaluations; None if nothing was chosen from."""
    start = "pretrained" if entry["tried"]["pretrained"] else "random"
    rows = entry["tried"][start]
    if not rows:
        return None
    columns = {name: title for name, title in _COLUMNS.items() if any(name in row for row in rows)}
    shown = [_row(row, columns, is_best=place == 0) for place, row in enumerate(rows)]
    left_out = len(rows) - ROWS_SHOWN
    return join(
        tag("h4", f"What was tried from {start} weights, best on held-out training samples first"),
        tag(
            "div",
            table([*columns.values(), _VALIDATION], shown[:ROWS_SHOWN], class_="compact tried"),
            class_="scroll",
        ),
        tag("p", *_notes(entry, start, left_out), class_="lead"),
        _baseline(entry) if start == "pretrained" else None,
    )


def _row(row: Mapping[str, Any], columns: Mapping[str, str], *, is_best: bool) -> Html:
    value = row["validation"]
    reached = wording.decimal(value) if wording.is_number(value) else "diverged"
    return tag(
        "tr",
        *[tag("td", _written(row.get(name))) for name in columns],
        tag("td", reached, tag("span", "chosen", class_="chip complete") if is_best else None),
        class_="best" if is_best else None,
    )


def _notes(entry: Mapping[str, Any], start: str, left_out: int) -> list[str]:
    """Sentences below the table: what it leaves out, and what of its differences is chance."""
    error = entry["tried_standard_error"][start]
    samples = wording.count((entry["settings"] or {}).get("held_out_samples"))
    chance = f"One standard error of {samples} held-out samples is {wording.decimal(error)} points."
    return [f"{left_out} more: see report.json. " if left_out > 0 else "", chance if error else ""]


def _baseline(entry: Mapping[str, Any]) -> Html | None:
    rows = entry["tried"]["random"]
    if not rows:
        return None
    best = rows[0]
    words = [f"{title.lower()} {_written(best[name])}" for name, title in _COLUMNS.items() if name in best]
    reached = f"{wording.decimal(best['validation'])} % held-out"
    sentence = f"From random weights the best of {len(rows)}: {', '.join(words)}; {reached}."
    return tag("p", sentence, class_="lead")


def _written(value: object) -> str:
    if wording.is_number(value):
        return wording.significant(value)
    return wording.UNKNOWN if value is None else str(value).replace("_", " ")
