"""The page of a study, one HTML file in the look of a run's report, with links to the runs beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mae_dist.report.blocks import definitions, section
from mae_dist.report.blocks import table as html_table
from mae_dist.report.html import document
from mae_dist.report.markup import Html, join, tag
from mae_dist.report.study import words
from mae_dist.report.study.chart import study_plot

Table = Mapping[str, Any]


def study_page(table: Table) -> str:
    """The whole document for the dict of `table.study_table`."""
    sections = {
        "Table": _results(table),
        "Plot": _plot(table),
        "Effects": _effects(table),
        "Missing": _missing(table),
        "Runs": _runs(table),
    }
    shown = {title: its for title, its in sections.items() if its is not None}
    header = tag(
        "header",
        tag("p", "mae_dist study", class_="kicker"),
        tag("h1", table["title"]),
        tag("p", tag("span", table["scale"], class_="chip"), f" {table['source']}", class_="subtitle"),
        tag("nav", *[join(tag("a", title, href=f"#{title.lower()}"), " ") for title in shown]),
    )
    scale = tag("p", words.SCALES[table["scale"]])
    note = tag("p", table["note"]) if table["note"] else None
    class_ = "callout" if table["scale"] == "mini" else "callout quiet"
    body = tag("main", tag("aside", scale, note, class_=class_), *shown.values())
    made = f"Made {table['created_utc']}. All numbers of this page are in table.json beside it."
    return document(f"{table['title']} · mae_dist study", header, body, tag("footer", tag("p", made)))


def _results(table: Table) -> Html:
    headings, rows = words.main_cells(table)
    written = []
    for row, cells in zip(table["rows"], rows, strict=True):
        chip = tag("span", "the paper's choice", class_="chip complete") if row["is_default"] else None
        is_run = any(cell["run_directory"] for cell in row["cells"].values())
        how = ", ".join(row["settings"]) or row["recipe"] or "the recipe as it is"
        changed = tag("span", how, class_="sub") if is_run else None
        first = tag("th", row["label"], " " if chip else None, chip, changed, scope="row")
        shown = zip(headings[1:], cells[1:], strict=True)
        written.append(tag("tr", first, *[tag("td", cell, data_label=name) for name, cell in shown]))
    metric = table["metric"]
    lead = (
        f"{metric[:1].upper()}{metric[1:]} in percent, ± one standard error; the difference is ours less the "
        "published number, in percentage points. ≈ is read off a figure of the paper."
    )
    return section("Table", tag("p", lead, class_="lead"), html_table(headings, written, class_="stack"))


def _plot(table: Table) -> Html | None:
    plot = study_plot(table)
    if plot is None:
        return None
    keys = [tag("span", "published", class_="key published"), tag("span", "ours", class_="key pretrained")]
    caption = tag("figcaption", *keys, "dotted: the paper's choice" if table["default"] else None)
    return section("Plot", tag("figure", plot, caption, class_="bars"))


def _effects(table: Table) -> Html | None:
    cells = words.effect_cells(table)
    if cells is None:
        return None
    headings, rows = cells
    written = [
        tag("tr", tag("th", row[0], scope="row"), *[tag("td", cell) for cell in row[1:]]) for row in rows
    ]
    lead = (
        f"Percentage points against {table['default']}: the paper's, and ours where both numbers are there."
    )
    return section("Effects", tag("p", lead, class_="lead"), html_table(headings, written, class_="compact"))


def _missing(table: Table) -> Html | None:
    reasons = words.without_number(table)
    if not reasons:
        return None
    lines = [tag("li", tag("strong", "; ".join(cells)), ": ", reason) for reason, cells in reasons.items()]
    return section("Missing", tag("ul", *lines, class_="verdicts"))


def _runs(table: Table) -> Html | None:
    runs = words.run_directories(table)
    if not runs:
        return None
    links = {
        ", ".join(values): tag("a", uri, href=f"../{uri.rpartition('/')[2]}/report/index.html")
        for uri, values in runs.items()
    }
    again = f"mae-dist study {table['name']} --scale {table['scale']}"
    return section(
        "Runs",
        definitions(words.measured_on(table)),
        definitions(links),
        tag("p", "Given again, this does what is missing and nothing else: ", tag("code", again)),
    )
