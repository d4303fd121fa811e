"""The part of the page that says what the job did: steps over time, their states and reasons, their cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mae_dist.report import wording
from mae_dist.report.blocks import definitions, meter, section, table
from mae_dist.report.gantt import gantt, row_of
from mae_dist.report.markup import Html, join, tag

Report = Mapping[str, Any]

COST_ROWS_SHOWN = 8
LOST_SHOWN = 30
"""Attempts that were lost; report.json has all."""
_NOT_DONE = ("failed", "skipped", "cancelled")
_TONES = {"done": "complete", "kept": "complete"}
_TONES |= dict.fromkeys(_NOT_DONE, "failed")


def steps(report: Report) -> Html | None:
    """The section; None of a run whose driver left no steps.json."""
    job = report["job"]
    if job is None:
        return None
    return section(
        "Steps",
        tag(
            "p",
            "Every attempt of every job of this run, those that failed included. Steps that end in @ are "
            "those of kept checkpoints, in one row.",
            class_="lead",
        ),
        gantt(job["attempts"], job["written"]),
        _not_done(job),
        _lost_attempts(job),
        tag("details", tag("summary", f"All {wording.plural(len(job['steps']), 'step')}"), _table(report)),
        _cost(report["cost"]),
    )


def _table(report: Report) -> Html:
    nothing = {"attempts": 0, "seconds": None, "cpu_hours": None, "gpu_hours": None}
    costs = {row["name"]: row for row in (report["cost"] or {"by_step": []})["by_step"]}
    has_gpus = any(row["gpu_hours"] for row in costs.values())
    columns = ["Step", "State", "Attempts", "Time", "CPU hours", *(["GPU hours"] if has_gpus else [])]
    rows = []
    for step in report["job"]["steps"]:
        its = costs.get(step["name"], nothing)
        cells = [
            tag("td", wording.count(its["attempts"]), data_label="Attempts"),
            tag("td", wording.duration(its["seconds"]), data_label="Time"),
            tag("td", wording.significant(its["cpu_hours"]), data_label="CPU hours"),
        ]
        if has_gpus:
            cells.append(tag("td", wording.significant(its["gpu_hours"]), data_label="GPU hours"))
        state = _chip(step["state"])
        rows.append(
            tag("tr", tag("th", step["name"], scope="row"), tag("td", state, data_label="State"), *cells)
        )
    return tag("div", table(columns, rows, class_="stack steps"), class_="scroll")


def _chip(state: str) -> Html:
    return tag("span", state, class_=f"chip {_TONES.get(state, '')}")


def _not_done(job: Mapping[str, Any]) -> Html | None:
    """Steps that failed, were skipped or cancelled, with the reason and where to read more."""
    rows = [
        tag(
            "tr",
            tag("th", step["name"], scope="row"),
            tag("td", _chip(step["state"]), data_label="State"),
            tag("td", step["reason"] or wording.UNKNOWN, data_label="Reason"),
            tag("td", tag("code", step["log"] or wording.UNKNOWN), data_label="Log"),
        )
        for step in job["steps"]
        if step["state"] in _NOT_DONE
    ]
    if not rows:
        return None
    columns = ["Step", "State", "Reason", "Log"]
    return join(tag("h3", "Not done"), table(columns, rows, class_="stack steps"))


def _lost_attempts(job: Mapping[str, Any]) -> Html | None:
    """Attempts that another one made good, and those that none did."""
    lost = [attempt for attempt in job["attempts"] if attempt["state"] not in ("done", "running")]
    if not lost:
        return None
    entries = [
        tag(
            "li",
            tag("strong", f"{attempt['name']}, attempt {attempt['attempt']}"),
            f": {attempt['state']}",
            f" after {wording.duration(attempt['ended'] - attempt['started'])}" if attempt["ended"] else None,
            f": {attempt['reason']}" if attempt["reason"] else None,
        )
        for attempt in lost[:LOST_SHOWN]
    ]
    if len(lost) > LOST_SHOWN:
        entries.append(tag("li", f"{len(lost) - LOST_SHOWN} more: see report.json."))
    return join(tag("h3", "Attempts that were lost"), tag("ul", *entries, class_="verdicts"))


def _cost(cost: Mapping[str, Any] | None) -> Html | None:
    if cost is None:
        return None
    unit, words = ("gpu_hours", "GPU hours") if cost["gpu_hours"] else ("cpu_hours", "CPU hours")
    wall, busy = wording.duration(cost["wall_seconds"]), wording.duration(cost["busy_seconds"])
    facts: dict[str, object] = {
        "Reserved": _hours(cost, ""),
        "Wall-clock": f"{wall}, {busy} of it at work",
        "In attempts that were lost": _hours(cost, "lost_")
        if cost["lost_cpu_hours"] or cost["lost_gpu_hours"]
        else "nothing",
    }
    by_row: dict[str, float] = {}
    for row in cost["by_step"]:
        by_row[row_of(row["name"])] = by_row.get(row_of(row["name"]), 0.0) + row[unit]
    ranked = sorted(by_row.items(), key=lambda entry: -entry[1])[:COST_ROWS_SHOWN]
    largest = ranked[0][1]
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", wording.significant(hours)),
            tag("td", meter(hours, largest, is_model=True), class_="meter"),
        )
        for name, hours in ranked
    ]
    return join(
        tag("h3", "Cost"),
        definitions(facts),
        tag("h4", f"{words} by step, the most expensive first"),
        tag("table", tag("tbody", *rows), class_="meters"),
    )


def _hours(cost: Mapping[str, Any], prefix: str) -> str:
    cpu, gpu = (wording.significant(cost[f"{prefix}{name}"]) for name in ("cpu_hours", "gpu_hours"))
    return f"{cpu} CPU hours" + (f", {gpu} GPU hours" if cost["gpu_hours"] else "")
