"""Curves and bars as inline SVG in the colours and the typeface of the page around them.

matplotlib draws in the sentinel colours below; they become CSS variables afterwards, so that one drawing
serves the light and the dark page. Text stays text.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mae_dist.report.markup import Html, raw
from mae_dist.report.wording import decimal, is_number, label

INK, MUTED, RULE = "#0a0b01", "#0a0b02", "#0a0b03"
PRETRAINED, RANDOM, PUBLISHED = "#0a0b04", "#0a0b05", "#0a0b06"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PRETRAINED: "var(--pretrained)",
    RANDOM: "var(--random)",
    PUBLISHED: "var(--published)",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "figure.constrained_layout.use": True,
}
_WIDTH = 5.2
"""Inches. At 72 points each a plot is about as wide as a phone, so its text keeps its size there."""
_TALL = 4.1

Curve = Mapping[str, Any]
"""One of curves.py."""


def loss_curve(curves: Mapping[str, Curve | None]) -> Html | None:
    """Pretraining loss over steps, learning rate and gradient norm below it; None without a loss."""
    panes = [("loss", "Loss", 3), ("lr", "Learning rate", 1), ("grad_norm", "Gradient norm", 1)]
    shown = [pane for pane in panes if curves[pane[0]] is not None]

    def draw(figure: Figure) -> None:
        ratios = [height for _, _, height in shown]
        all_axes = figure.subplots(len(shown), 1, sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
        for axes, (field, title, height) in zip(all_axes, shown, strict=True):
            _curve(axes, curves[field], PRETRAINED if field == "loss" else MUTED)
            axes.set_title(title, **TITLE)
            if height == 1:
                axes.set_ylim(bottom=0)
                axes.yaxis.set_major_locator(MaxNLocator(nbins=2))
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        all_axes[-1].set_xlabel("step")

    if curves["loss"] is None:
        return None
    return drawn(draw, "loss", _TALL, "Pretraining loss, learning rate and gradient norm over steps")


def speed_curve(curves: Mapping[str, Curve | None]) -> Html | None:
    """Samples per second and the share of time spent waiting for data, over steps."""

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        _curve(above, curves["samples_per_second"], PRETRAINED)
        _curve(below, curves["data_wait_share"], PUBLISHED, scale=100)
        above.set_title("Samples per second", **TITLE)
        above.set_ylim(bottom=0)
        below.set_title("Step time spent waiting for data, %", **TITLE)
        below.set_ylim(0, max(5.0, below.get_ylim()[1]))
        below.set_xlabel("step")

    if curves["samples_per_second"] is None:
        return None
    return drawn(draw, "speed", _TALL, "Throughput and data wait over steps")


def evaluation_curve(name: str, trained: Sequence[Mapping[str, Any]]) -> Html | None:
    """Training loss of one evaluation from either start, and its metric where it was logged.

    `trained` are its entries among the report's curves; None without any.
    """
    if not trained:
        return None
    has_metric = any(its["value"] is not None for its in trained)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2 if has_metric else 1, 1, sharex=True, squeeze=False)[:, 0]
        for its in trained:
            colour = PRETRAINED if its["start_from"] == "pretrained" else RANDOM
            _curve(axes[0], its["loss"], colour, legend=its["start_from"])
            if has_metric:
                _curve(axes[1], its["value"], colour)
        axes[0].set_title(f"{label(name)}: training loss", **TITLE)
        axes[0].legend(loc="upper right", labelcolor=MUTED, fontsize=9)
        if has_metric:
            axes[1].set_title(f"{label(trained[0]['metric'])}, %", **TITLE)
        axes[-1].set_xlabel("step")

    return drawn(draw, f"curve-{name}", 3.4 if has_metric else 2.4, f"Curves of {label(name)}")


def probe_curve(entry: Mapping[str, Any]) -> Html | None:
    """One evaluation over the pretraining, its 95 % intervals, its best; None below two values.

    `entry` is one of the report's probe_curves. Random weights are a line across.
    """
    points = [point for point in entry["points"] if is_number(point["value"])]
    if len(points) < 2:
        return None
    unit = "step" if any(point["epoch"] is None for point in points) else "epoch"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places, values = [point[unit] for point in points], [point["value"] for point in points]
        ends = zip(places, (point["interval"] for point in points), strict=True)
        intervals = [(place, *interval) for place, interval in ends if interval]
        if intervals:
            axes.fill_between(*np.array(intervals).T, color=PRETRAINED, alpha=0.15, linewidth=0)
        axes.plot(places, values, color=PRETRAINED, marker="o", markersize=4)
        best = values.index(max(values))
        axes.plot(places[best], values[best], "o", markersize=9, fillstyle="none", color=INK)
        axes.annotate(decimal(values[best]), (places[best], values[best]), xytext=(0, 9), **_ABOVE)
        if is_number(entry["random"]):
            axes.axhline(entry["random"], color=RANDOM, linestyle=(0, (4, 3)))
            place, across = (1, entry["random"]), ("axes fraction", "data")
            options: dict[str, Any] = _ABOVE | {"ha": "right"}
            axes.annotate("random init", place, xytext=(0, 4), xycoords=across, **options)
        axes.set_title(f"{label(entry['name'])}: {label(entry['metric'])}, %", **TITLE)
        axes.margins(x=0.03, y=0.15)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.set_xlabel(f"{unit} of pretraining")

    return drawn(draw, f"probe-{entry['name']}", 2.8, f"{label(entry['name'])} over the pretraining")


def accuracy_bars(evaluations: Sequence[Mapping[str, Any]]) -> Html | None:
    """A pair of bars per evaluation with one standard error to each side, and the published value's mark."""
    shown = [entry for entry in evaluations if _value(entry, "pretrained") or _value(entry, "baseline")]
    if not shown:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for row, entry in enumerate(shown):
            for side, colour, offset in (("pretrained", PRETRAINED, -0.19), ("baseline", RANDOM, 0.19)):
                _bar(axes, row + offset, entry[side], colour)
            if entry["published"]:
                axes.plot(entry["published"]["value"], row, "D", color=PUBLISHED, markersize=6, zorder=4)
        axes.set_yticks(range(len(shown)), [label(entry["name"]) for entry in shown], color=INK, **PLAIN)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.margins(x=0.12)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        is_mixed = any(entry["metric"] != "top1" for entry in shown)
        axes.set_xlabel("accuracy or frame mAP, %" if is_mixed else "accuracy, %")

    return drawn(draw, "bars", 0.6 + 0.75 * len(shown), "Accuracy from pretrained and from random weights")


def _bar(axes: Axes, place: float, side: Mapping[str, Any] | None, colour: str) -> None:
    if not side or not is_number(side["value"]):
        return
    value, error = side["value"], side["standard_error"] if is_number(side["standard_error"]) else 0.0
    axes.barh(place, value, height=0.34, color=colour, linewidth=0)
    if error:
        axes.errorbar(value, place, xerr=error, fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.5)
    axes.annotate(
        decimal(value),
        (value + error, place),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=MUTED,
        fontsize=9,
    )


def _value(entry: Mapping[str, Any], start: str) -> bool:
    return bool(entry[start]) and is_number(entry[start]["value"])


PLAIN: dict[str, Any] = {"parse_math": False}  # a name may hold a dollar sign
TITLE: dict[str, Any] = {"loc": "left", "fontsize": 10, "color": INK, **PLAIN}
_ABOVE: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "color": MUTED, "fontsize": 9}


def _curve(
    axes: Axes, curve: Curve | None, colour: str, *, scale: float = 1.0, legend: str | None = None
) -> None:
    if curve is not None:
        steps = curve["step"]
        axes.plot(steps, scale * np.array(curve["mean"]), color=colour, label=legend)
        if curve["low"] is not None:
            low, high = scale * np.array(curve["low"]), scale * np.array(curve["high"])
            axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.margins(x=0)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def drawn(draw: Callable[[Figure], None], key: str, height: float, description: str) -> Html:
    """Run `draw` on a fresh figure `height` inches high and return it as an <svg> element."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": key}), warnings.catch_warnings():
        # matplotlib only measures the text; the page's typefaces draw it and know other scripts.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font", category=UserWarning)
        figure = Figure(figsize=(_WIDTH, height))
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(file.getvalue(), key, description)


def _for_page(drawing: str, key: str, description: str) -> Html:
    """Cut matplotlib's file down to its <svg> element and hand its colours, typeface and size to the page."""
    svg = drawing[drawing.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for sentinel, variable in _VARIABLES.items():
        svg = svg.replace(sentinel, variable)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*; ", "", svg)
    # Several drawings share a page; matplotlib numbers the parts of each from 1.
    prefix = re.sub(r"\W+", "-", key)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box, "matplotlib writes a viewBox"
    head = f'<svg class="plot" role="img" aria-label="{html.escape(description, quote=True)}" {box[0]} '
    head += 'xmlns:xlink="http://www.w3.org/1999/xlink" xmlns="http://www.w3.org/2000/svg">'
    return raw(head + svg[svg.index(">") + 1 :])
