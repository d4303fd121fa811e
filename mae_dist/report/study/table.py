"""A study as plain data, the content of table.json. Units: percent, and percentage points for differences.

schema            int, 1. Raised when a field changes its meaning; new fields may come without that.
name, title, source, metric, note, heading, axis    as the study has them.
default           the value that the paper chooses, or null.
scale             "full", or "mini": small models, few samples and steps.
created_utc       when the table was made, ISO 8601.
columns           [{"key", "heading", "data", "recipe", "evaluation"}]; the last three as run at this scale,
                  null of a column that is not. data: the name of the samples; of drawn ones, how they are.
rows              [{"label", "recipe", "settings", "is_default", "remark", "cells"}], one per value; recipe:
                  where it has one of its own at this scale, else null. cells by column:
  published       null if there is none. is_approximate: whether it is read off a figure.
  state           "done", "failed", "missing" (not run yet, or the run is not done), or "none": it cannot be
                  had here, is not measured at this scale or was not asked for. reason: why, null if done.
  value, standard_error, interval, num_samples    as in report.json of the run; null unless done.
  difference      value - published.
  effect, published_effect    how far it is from the default's number in the same column: ours, the paper's.
  run_directory, evaluation, start_from    where our number lies; null of state "none".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mae_dist.config.studies import DATA_SETS, ColumnConfig, Scale, StudyConfig, ValueConfig
from mae_dist.report.run_files import NotARunError, read_run
from mae_dist.report.summary import summarise
from mae_dist.report.wording import is_number

SCHEMA = 1
Cell = tuple[str, str]
"""(value, column)."""
_NUMBERS = ("value", "standard_error", "interval", "num_samples")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where our number of a cell lies, or will."""

    run_directory: str
    evaluation: str
    start_from: str


def study_table(
    name: str,
    study: StudyConfig,
    *,
    scale: Scale,
    places: Mapping[Cell, Place],
    reasons: Mapping[Cell, str],
    samples: Mapping[str, str],
    created: datetime,
) -> dict[str, Any]:
    """The fields listed at the top of this file.

    Every cell is in `places` or in `reasons`, which says why it has none; `samples` says what the runs of a
    column train on. Raises StorageError if a run cannot be reached.
    """
    runs = sorted({place.run_directory for place in places.values()})
    reports = {uri: _report(uri, created) for uri in runs}
    rows = [
        {
            "label": label,
            "recipe": value.recipe if scale == "full" else None,
            "settings": list(_settings(value, scale)),
            "is_default": label == study.default,
            "remark": value.remark,
            "cells": {
                key: _cell(value, key, places.get((label, key)), reasons.get((label, key)), reports)
                for key in study.columns
            },
        }
        for label, value in study.values.items()
    ]
    _add_effects(rows, study)
    return {
        "schema": SCHEMA,
        "name": name,
        "title": study.title,
        "source": study.source,
        "metric": study.metric,
        "note": study.note,
        "heading": study.heading,
        "axis": list(study.axis),
        "default": study.default,
        "scale": scale,
        "created_utc": created.isoformat(timespec="seconds"),
        "columns": [_column(key, its, scale, samples.get(key)) for key, its in study.columns.items()],
        "rows": rows,
    }


def _settings(value: ValueConfig, scale: Scale) -> tuple[str, ...]:
    return value.settings if scale == "full" or value.mini_settings is None else value.mini_settings


def _column(key: str, column: ColumnConfig, scale: Scale, samples: str | None) -> dict[str, Any]:
    recipe = column.recipe if scale == "full" else column.mini
    known = None if column.data is None else DATA_SETS[column.data]
    return {
        "key": key,
        "heading": column.heading,
        "data": None if recipe is None else (known if scale == "full" else samples),
        "recipe": recipe,
        "evaluation": None if recipe is None else column.evaluation,
    }


def _report(uri: str, created: datetime) -> Mapping[str, Any] | None:
    """What report.json would say now of a run; None if there is no such run yet."""
    try:
        return summarise(read_run(uri), created=created)
    except NotARunError:
        return None


def _cell(
    value: ValueConfig,
    column: str,
    place: Place | None,
    reason: str | None,
    reports: Mapping[str, Mapping[str, Any] | None],
) -> dict[str, Any]:
    published = value.published.get(column)
    cell: dict[str, Any] = {"published": published, "is_approximate": column in value.approximate}
    cell |= {"state": "none", "reason": reason, **dict.fromkeys(_NUMBERS), "difference": None}
    cell |= {"run_directory": None, "evaluation": None, "start_from": None}
    if place is None:
        return cell
    cell |= {"run_directory": place.run_directory, "evaluation": place.evaluation}
    cell |= {"start_from": place.start_from, **_outcome(place, reports[place.run_directory])}
    if is_number(cell["value"]) and published is not None:
        cell["difference"] = cell["value"] - published
    return cell


def _outcome(place: Place, report: Mapping[str, Any] | None) -> dict[str, Any]:
    if report is None:
        return {"state": "missing", "reason": "not run yet"}
    entries = {entry["name"]: entry for entry in report["evaluations"]}
    side = entries.get(place.evaluation, {}).get(place.start_from)
    if side is None:
        return {"state": "missing", "reason": f"{place.evaluation} was not run yet"}
    if side["state"] == "missing" and report["pretraining"]["reason"]:
        return {"state": "failed", "reason": f"the pretraining failed: {report['pretraining']['reason']}"}
    return {part: side[part] for part in ("state", "reason", *_NUMBERS)}


def _add_effects(rows: list[dict[str, Any]], study: StudyConfig) -> None:
    default = next((row["cells"] for row in rows if row["is_default"]), None)
    for row in rows:
        for key in study.columns:
            cell, chosen = row["cells"][key], None if default is None else default[key]
            for name, number in (("effect", "value"), ("published_effect", "published")):
                ours, theirs = cell[number], None if chosen is None else chosen[number]
                cell[name] = None
                if is_number(ours) and is_number(theirs) and not row["is_default"]:
                    cell[name] = ours - theirs
