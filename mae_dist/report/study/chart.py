"""The numbers of a study over its values: the paper's and ours, a pane for each column."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mae_dist.report.html import stylesheet
from mae_dist.report.markup import Html
from mae_dist.report.plots import INK, MUTED, PLAIN, PRETRAINED, PUBLISHED, TITLE, drawn
from mae_dist.report.wording import is_number

Table = Mapping[str, Any]
_PANE_INCHES = 1.9
_LONG_LABELS = 24
"""Letters of all labels together beyond which they stand aslant."""


def study_plot(table: Table) -> Html | None:
    """One pane per column with both at full scale; at mini scale, where they are two quantities, one each.

    `table` is the dict of `table.study_table`. None if there is nothing to draw.
    """
    panes = []
    for column in table["columns"]:
        cells = [row["cells"][column["key"]] for row in table["rows"]]
        both = [("published", _points(cells, "published")), ("ours", _points(cells, "value"))]
        known = [(name, points) for name, points in both if points]
        together = [known] if table["scale"] == "full" else [[one] for one in known]
        panes += [(column["heading"], series) for series in together if series]
    if not panes:
        return None
    labels = [row["label"] for row in table["rows"]]
    is_ordered = all(re.fullmatch(r"[\d.]+", label) for label in labels)
    default = next((place for place, row in enumerate(table["rows"]) if row["is_default"]), None)

    def draw(figure: Figure) -> None:
        all_axes = figure.subplots(len(panes), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (heading, series) in zip(all_axes, panes, strict=True):
            for name, points in series:
                _series(axes, name, points, is_joined=is_ordered)
            what = " and ".join(name for name, _ in series)
            axes.set_title(f"{heading}, %: {what}", **TITLE)
            axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
            axes.margins(y=0.2)
            if default is not None:
                axes.axvline(default, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
        is_long = sum(map(len, labels)) > _LONG_LABELS
        slant: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if is_long else {}
        all_axes[-1].set_xticks(range(len(labels)), labels, color=INK, **slant, **PLAIN)
        all_axes[-1].set_xlim(-0.4, len(labels) - 0.6)
        all_axes[-1].set_xlabel(table["heading"], **PLAIN)

    return drawn(draw, "study", 0.6 + _PANE_INCHES * len(panes), f"{table['title']}: published and ours")


def standalone(plot: Html) -> str:
    """The plot as a file of its own, in the colours that the page has on a light screen."""
    light = stylesheet().partition("@media")[0]
    colours = dict(re.findall(r"--(\w+): (#\w+);", light))
    svg = re.sub(r"var\(--(\w+)\)", lambda found: colours[found[1]], plot)
    style = f'style="background: {colours["paper"]}; font-family: sans-serif" '
    return svg.replace("<svg ", f"<svg {style}", 1)


def _points(cells: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float, float]]:
    """(place, number, standard error) of the cells that have this number."""
    points = []
    for place, cell in enumerate(cells):
        error = cell["standard_error"] if name == "value" else None
        if is_number(cell[name]):
            points.append((place, cell[name], error if is_number(error) else 0.0))
    return points


def _series(axes: Axes, name: str, points: list[tuple[int, float, float]], *, is_joined: bool) -> None:
    places, values, errors = zip(*points, strict=True)
    colour, marker = (PUBLISHED, "D") if name == "published" else (PRETRAINED, "o")
    if is_joined:
        axes.plot(places, values, color=colour, linewidth=0.9, alpha=0.5)
    axes.plot(places, values, marker, color=colour, markersize=5)
    if any(errors):
        axes.errorbar(places, values, yerr=errors, fmt="none", ecolor=colour, elinewidth=1.1, capsize=2.5)
