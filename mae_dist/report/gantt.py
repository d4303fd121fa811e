"""Attempts over time as bars of plain HTML: a row per step, a bar per attempt, idle stretches cut short.

attempts -> Axis (a moment's place) -> rows of bars, in percent of the width, so that they fit a phone
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mae_dist.report import wording
from mae_dist.report.cost import span, stretches
from mae_dist.report.markup import Html, tag

ROWS_SHOWN = 40
"""report.json has the attempts of all."""
_CUT = 2.0
"""Percent of the width that is left of an idle stretch."""
_IDLE_SHARE = 0.05
"""An idle stretch is cut short where it is longer than this share of the time at work."""
_TICKS = 6
_NEAREST_TICK = 15.0
"""Percent between two ticks at least, so that their words do not touch on a phone."""
_SPACINGS = [
    *(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800),
    *(3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400),
]
_STATES = {
    "done": "done",
    "running": "still running",
    "failed": "failed",
    "cancelled": "cancelled",
}

Attempt = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """Where moments lie between the left, 0, and the right, 100."""

    work: tuple[tuple[float, float], ...]
    """Stretches of time in order, in seconds since 1970; what lies between them is cut short."""

    def place(self, moment: float) -> float:
        """In percent; a moment of a cut lies at its end."""
        scale = (100.0 - _CUT * (len(self.work) - 1)) / (self.seconds or 1.0)
        left = 0.0
        for start, end in self.work:
            if moment <= end:
                return left + max(0.0, moment - start) * scale
            left += (end - start) * scale + _CUT
        return 100.0

    @property
    def seconds(self) -> float:
        """Of the stretches together."""
        return math.fsum(end - start for start, end in self.work)

    @property
    def cuts(self) -> list[tuple[float, float]]:
        """What is cut short: (beginning, end)."""
        return [(end, start) for (_, end), (start, _) in itertools.pairwise(self.work)]

    def ticks(self) -> list[tuple[float, str]]:
        """(place, time since the beginning) at round times, not too close to each other."""
        weeks = math.ceil(self.seconds / _TICKS / _SPACINGS[-1]) * _SPACINGS[-1]
        spacing = next((nice for nice in _SPACINGS if self.seconds / nice <= _TICKS), weeks)
        beginning = self.work[0][0]
        ticks = [(0.0, "0")]
        for start, end in self.work:
            first, last = math.ceil((start - beginning) / spacing), math.floor((end - beginning) / spacing)
            for number in range(first, last + 1):
                place = self.place(beginning + number * spacing)
                if place - ticks[-1][0] >= _NEAREST_TICK:
                    ticks.append((place, wording.duration(number * spacing)))
        return ticks


def axis_of(attempts: Sequence[Attempt], now: float) -> Axis:
    """The axis on which these attempts fit; `now` is where those stand that have not ended."""
    spans = [span(attempt, now) for attempt in attempts]
    seconds = math.fsum(end - start for start, end in stretches(spans))
    return Axis(tuple(stretches(spans, gap=_IDLE_SHARE * seconds)))


def row_of(name: str) -> str:
    """A step's name, or what those of checkpoints share: "knn-pretrained@1200" -> "knn-pretrained@"."""
    stem, at, _ = name.rpartition("@")
    return stem + at if at else name


def gantt(attempts: Sequence[Attempt], now: float) -> Html | None:
    """The figure; None without attempts. `now` as in `axis_of`."""
    if not attempts:
        return None
    axis = axis_of(attempts, now)
    rows: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        rows.setdefault(row_of(attempt["name"]), []).append(attempt)
    shown = list(rows.items())[:ROWS_SHOWN]
    ticks = axis.ticks()
    labels = [
        tag("span", words, style=f"left:{place:.2f}%", class_="last" if place > 92 else None)
        for place, words in ticks
    ]
    return tag(
        "figure",
        tag("div", tag("span"), tag("div", *labels, class_="ticks"), class_="row"),
        *[_row(name, its, axis, now) for name, its in shown],
        _caption(attempts, axis, len(rows) - len(shown)),
        class_="gantt",
        style=f"--grid:{_grid([place for place, _ in ticks])}",
    )


def _row(name: str, attempts: Sequence[Attempt], axis: Axis, now: float) -> Html:
    cuts = [
        tag(
            "span",
            class_="cut",
            style=_box(axis, start, end),
            title=f"idle for {wording.duration(end - start)}",
        )
        for start, end in axis.cuts
    ]
    bars = [_bar(attempt, axis, now) for attempt in attempts]
    many = f"{name} ×{len({its['name'] for its in attempts})}" if name.endswith("@") else name
    return tag(
        "div", tag("span", many, class_="what"), tag("div", *cuts, *bars, class_="track"), class_="row"
    )


def _bar(attempt: Attempt, axis: Axis, now: float) -> Html:
    start, end = span(attempt, now)
    state = attempt["state"] if attempt["state"] in _STATES else "other"
    words = f"{attempt['name']}, attempt {attempt['attempt']}: {attempt['state']}"
    words += f", {wording.duration(end - start)}"
    words += f": {attempt['reason']}" if attempt["reason"] else ""
    return tag("span", class_=f"bar {state}", style=_box(axis, start, end), title=words)


def _box(axis: Axis, start: float, end: float) -> str:
    left = axis.place(start)
    # What has only just begun is still seen at the right edge.
    return f"left:min({left:.2f}%,100% - 3px);width:{axis.place(end) - left:.2f}%"


def _grid(places: Sequence[float]) -> str:
    """A CSS background with a thin line at each place."""
    stops = []
    for place in places:
        begin, end = f"calc({place:.2f}% - 0.5px)", f"calc({place:.2f}% + 0.5px)"
        stops += [f"transparent {begin}", "var(--rule) 0", f"var(--rule) {end}", "transparent 0"]
    return f"linear-gradient(to right,{','.join(stops)})"


def _caption(attempts: Sequence[Attempt], axis: Axis, left_out: int) -> Html:
    found = {attempt["state"] for attempt in attempts}
    keys = [tag("span", words, class_=f"key {state}") for state, words in _STATES.items() if state in found]
    idle = ", ".join(wording.duration(end - start) for start, end in axis.cuts)
    more = f" {wording.plural(left_out, 'more row')}: see report.json." if left_out else ""
    return tag(
        "figcaption", *keys, f"Nothing ran for {idle}, cut short here." if idle else None, more or None
    )
