"""The part of the page that shows an evaluation over the pretraining, and warns where it falls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mae_dist.report import plots, wording
from mae_dist.report.blocks import section, table
from mae_dist.report.markup import Html, tag
from mae_dist.report.probe_curves import when

Report = Mapping[str, Any]


def checkpoints(report: Report) -> Html | None:
    """The section; None where no checkpoint was probed."""
    entries = report["probe_curves"]
    if not entries:
        return None
    drawings = [plots.probe_curve(entry) for entry in entries]
    shown = [tag("figure", drawing) for drawing in drawings if drawing]
    columns = ["Evaluation", "Best", "Newest", "Fall", "Best checkpoint"]
    return section(
        "Checkpoints",
        tag(
            "p",
            "Evaluations of checkpoints that were kept while the pretraining went on; the band is the 95 % "
            "interval, the circle the best.",
            class_="lead",
        ),
        tag("div", *shown, class_="plots") if shown else None,
        table(columns, [_row(entry) for entry in entries], class_="stack checkpoints"),
    )


def warnings(report: Report) -> Html | None:
    """What a reader should know first; None without any."""
    if not report["warnings"]:
        return None
    sentences = [tag("p", sentence) for sentence in report["warnings"]]
    return tag("aside", tag("h2", "Early warning"), *sentences, class_="callout", id="warning")


def _row(entry: Mapping[str, Any]) -> Html:
    measured = [point for point in entry["points"] if wording.is_number(point["value"])]
    best, newest = entry["best"], measured[-1] if measured else None
    fall = wording.decimal(entry["fall"])
    if entry["fall_standard_error"] is not None:
        fall += f" ± {wording.decimal(entry['fall_standard_error'])}"
    kept = "deleted" if best else wording.UNKNOWN
    if best and best["checkpoint"]:
        kept = tag("code", best["checkpoint"])
    return tag(
        "tr",
        tag("th", wording.label(entry["name"]), scope="row"),
        tag("td", *_reading(best), data_label="Best"),
        tag("td", *_reading(newest), data_label="Newest"),
        tag("td", tag("span", fall, class_="bad" if entry["warning"] else None), data_label="Fall"),
        tag("td", kept, data_label="Best checkpoint"),
    )


def _reading(point: Mapping[str, Any] | None) -> list[str]:
    if point is None:
        return [wording.UNKNOWN]
    return [wording.decimal(point["value"]), tag("span", when(point), class_="sub")]
