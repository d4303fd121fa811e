"""The part of an evaluation that goes by class: accuracy of each, and which are taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mae_dist.report import wording
from mae_dist.report.blocks import meter, table
from mae_dist.report.markup import Html, join, tag

MISTAKES_SHOWN = 10
"""report.json has all that the evaluation kept."""
_EXTREMES = 3
"""Classes named as the best and as the worst, where there are more than four times as many."""
_PER_CLASS = {"frame_map": "Average precision per action, %"}


def per_class(entry: Mapping[str, Any]) -> Html | None:
    """A table of an entry of the report's evaluations, best class first; None without classes."""
    if not entry["per_class"]:
        return None
    rows = sorted(entry["per_class"], key=_own)
    total = "Occurrences" if entry["metric"] == "frame_map" else "Test samples"
    cells = [
        tag(
            "tr",
            tag("th", str(row["class"]), scope="row"),
            *[tag("td", wording.decimal(row[start])) for start in ("pretrained", "random")],
            tag("td", wording.count(row["total"])),
            tag(
                "td",
                meter(row["pretrained"], 100.0, is_model=True),
                meter(row["random"], 100.0),
                class_="meter",
            ),
        )
        for row in rows
    ]
    columns = ["Class", "Pretrained", "Random init", total, ""]
    return join(
        tag("h4", _PER_CLASS.get(entry["metric"], "Accuracy per class, %")),
        _extremes(rows),
        tag("div", table(columns, cells, class_="compact classes"), class_="scroll"),
    )


def confusion(entry: Mapping[str, Any]) -> Html | None:
    """The most frequent mistakes of an entry of the report's evaluations; None where none are known."""
    start = "pretrained" if entry["confusion"]["pretrained"] else "random"
    mistakes = entry["confusion"][start]
    if not mistakes:
        return None
    rows = [
        tag(
            "tr",
            tag("td", str(mistake["class"])),
            tag("td", str(mistake["predicted"])),
            tag("td", wording.count(mistake["count"])),
            tag("td", wording.percent(mistake["share"])),
            tag("td", meter(mistake["share"], 1.0, is_model=start == "pretrained"), class_="meter"),
        )
        for mistake in mistakes[:MISTAKES_SHOWN]
    ]
    columns = ["Is", "Taken for", "Times", "Of its class", ""]
    return join(
        tag("h4", f"Most frequent mistakes from {start} weights"),
        tag("div", table(columns, rows, class_="compact mistakes"), class_="scroll"),
    )


def _own(row: Mapping[str, Any]) -> tuple[float, str]:
    value = row["random"] if row["pretrained"] is None else row["pretrained"]
    return (-value if wording.is_number(value) else 1.0), str(row["class"])


def _extremes(rows: Sequence[Mapping[str, Any]]) -> Html | None:
    known = [row for row in rows if wording.is_number(row["pretrained"])]
    if len(known) <= 4 * _EXTREMES:
        return None
    best, worst = (
        ", ".join(f"{row['class']} {wording.decimal(row['pretrained'])}" for row in some)
        for some in (known[:_EXTREMES], known[: -_EXTREMES - 1 : -1])
    )
    return tag("p", f"Best: {best}. Worst: {worst}.", class_="lead")
