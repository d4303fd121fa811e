"""The table of a study in words, for the page, for Markdown and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mae_dist.report import markdown, wording

Table = Mapping[str, Any]
"""The dict of `table.study_table`."""
Cells = tuple[list[str], list[list[str]]]
"""(headings, rows)."""

SCALES = {
    "full": "Full scale: the recipes of the paper, on its data.",
    "mini": "Mini scale, not the paper's: a small model, few samples and few steps. How far a number is from "
    "the published one says nothing about the method here, and the order of the values says little.",
}
_STATES = {"failed": "failed", "missing": "not run", "none": wording.UNKNOWN}


def main_cells(table: Table) -> Cells:
    """Published, ours and the difference of every value and column."""
    headings = [table["heading"]]
    for column in table["columns"]:
        headings += [f"{column['heading']}: published", "ours", "difference"]
    rows = []
    for row in table["rows"]:
        cells = [label(row)]
        for column in table["columns"]:
            cell = row["cells"][column["key"]]
            cells += [published(cell), ours(cell), wording.signed(cell["difference"])]
        rows.append([*cells, row["remark"]])
    return _without_empty([*headings, "the paper also says"], rows)


def effect_cells(table: Table) -> Cells | None:
    """How far every value is from the paper's choice, in the paper and here; None if it chooses none."""
    others = [row for row in table["rows"] if not row["is_default"]]
    if table["default"] is None or not others:
        return None
    headings = [f"{table['heading']}, against {table['default']}"]
    for column in table["columns"]:
        headings += [f"{column['heading']}: published", "ours"]
    rows = [
        [row["label"]]
        + [
            wording.signed(row["cells"][column["key"]][name])
            for column in table["columns"]
            for name in ("published_effect", "effect")
        ]
        for row in others
    ]
    return headings, rows


def label(row: Mapping[str, Any]) -> str:
    """A value, with a word where the paper chooses it."""
    return f"{row['label']} (the paper's choice)" if row["is_default"] else row["label"]


def published(cell: Mapping[str, Any]) -> str:
    """84.9, or ≈ 83.4 if it is read off a figure."""
    return ("≈ " if cell["is_approximate"] else "") + wording.decimal(cell["published"])


def ours(cell: Mapping[str, Any]) -> str:
    """84.7 ± 0.2, or why there is no number in a word."""
    if cell["state"] != "done":
        return _STATES[cell["state"]]
    error = cell["standard_error"]
    return wording.decimal(cell["value"]) + ("" if error is None else f" ± {wording.decimal(error)}")


def without_number(table: Table) -> dict[str, list[str]]:
    """reason -> the cells that have no number for it, as "value, column"."""
    found: dict[str, list[str]] = {}
    for row in table["rows"]:
        reasons = {column["key"]: row["cells"][column["key"]]["reason"] for column in table["columns"]}
        is_whole = len(set(reasons.values())) == 1
        for column in table["columns"]:
            reason = reasons[column["key"]]
            what = row["label"] if is_whole else f"{row['label']}, {column['heading']}"
            if reason is not None and what not in found.setdefault(reason, []):
                found[reason].append(what)
    return found


def run_directories(table: Table) -> dict[str, list[str]]:
    """Run directory -> the values whose numbers lie there."""
    found: dict[str, list[str]] = {}
    for row in table["rows"]:
        for cell in row["cells"].values():
            if cell["run_directory"] is not None:
                values = found.setdefault(cell["run_directory"], [])
                values += [row["label"]] if row["label"] not in values else []
    return found


def measured_on(table: Table) -> dict[str, str]:
    """Column -> what its runs are."""
    return {
        column["heading"]: f"{column['evaluation']} of {column['recipe']} on {column['data']}"
        for column in table["columns"]
        if column["recipe"] is not None
    }


def study_markdown(table: Table) -> str:
    """The whole table as Markdown; the plot lies beside it."""
    parts = [f"# {markdown.text(table['title'])} ({table['scale']})"]
    source, metric = markdown.text(table["source"]), markdown.text(table["metric"])
    parts += [
        f"Source: {source}. Numbers: {metric} in percent, ± one standard error; ≈ is read off a figure."
    ]
    parts += [f"**{markdown.text(SCALES[table['scale']])}**", markdown.text(table["note"])]
    parts += [markdown.table(*main_cells(table)), "![The values beside each other](plot.svg)"]
    effects = effect_cells(table)
    if effects is not None:
        parts += ["## Against the paper's choice", "In percentage points.", markdown.table(*effects)]
    parts += _list("Measured as", measured_on(table))
    missing = {", ".join(cells): reason for reason, cells in without_number(table).items()}
    parts += _list("Without a number of ours", missing)
    parts += _list("Runs", {uri: ", ".join(values) for uri, values in run_directories(table).items()})
    parts.append(f"Made {table['created_utc']} by `mae-dist study {table['name']} --scale {table['scale']}`.")
    return "\n\n".join(filter(None, parts)) + "\n"


def _without_empty(headings: list[str], rows: list[list[str]]) -> Cells:
    """Without a last column in which nothing stands."""
    if any(row[-1] for row in rows):
        return headings, rows
    return headings[:-1], [row[:-1] for row in rows]


def _list(title: str, facts: Mapping[str, str]) -> list[str]:
    if not facts:
        return []
    lines = [f"- {markdown.text(name)}: {markdown.text(fact)}" for name, fact in facts.items()]
    return [f"## {title}", "\n".join(lines)]
