"""Runs beside each other and beside what is published, as plain data.

groups            one per protocol and data set: numbers of two groups are never comparable
  protocol        {"name", "metric", "setting", "labels_per_class", "trainable_blocks"}; setting: views of a
                  test sample (clips x crops), of action detection whose boxes are judged. labels_per_class,
                  trainable_blocks: null if all labels are learned from and the whole encoder is fine-tuned.
  data_set        {"name", "digest"} of the test samples. Two test catalogs are one data set if they have the
                  same digest, or the number of classes and about the size of the same public one (digest is
                  null then).
  rows            the best first
    kind          "run" or "published". run, run_directory, evaluation: null of a published row.
    value, standard_error, interval, single_view, num_samples    as in report.json
    start_from    "pretrained" or "random". model, epochs: null where it is not known.
    pretrained_on the samples, or the weights that were given in its place; null of random weights.
    schedule      how long the evaluation trained. training_samples: how many samples it learned from.
    cost          {"gpu_hours", "cpu_hours", "seconds"} of the pretraining, unless weights were given, and of
                  this evaluation; hours are those that were reserved, null if nobody recorded them. null of
                  a published row.
    source        of a published row.
unfinished        [{"run", "run_directory", "what", "reason"}]: of which there is no number yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mae_dist.report import wording
from mae_dist.report.evaluations import STARTS
from mae_dist.report.published import DATA_SETS, FOUND_PEOPLE, PUBLISHED, known_data_set

Report = Mapping[str, Any]
Row = dict[str, Any]

_ONE_VIEW = "1 x 1"


def leaderboard(reports: Sequence[Report], *, unreadable: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The fields listed at the top of this file, from the content of several runs' report.json; `unreadable`
    says of other run directories why they could not be read."""
    groups: dict[tuple[object, ...], dict[str, Any]] = {}
    for report in reports:
        for evaluation in report["evaluations"]:
            rows = list(_rows(report, evaluation))
            if not rows:
                continue
            protocol, (known, data_set) = _protocol(evaluation), _data_set(report, evaluation)
            key = (*protocol.values(), known or data_set["digest"] or data_set["name"])
            if key not in groups:
                reference = list(_references(protocol, known))
                groups[key] = {"protocol": protocol, "data_set": data_set, "rows": reference}
            groups[key]["rows"] += [*rows, *_cited(evaluation, groups[key]["rows"])]
    for group in groups.values():
        group["rows"].sort(key=lambda row: -row["value"])
    return {
        "groups": sorted(groups.values(), key=lambda group: (group["data_set"]["name"], title(group))),
        "unfinished": list(_unfinished(reports, unreadable or {})),
    }


def title(group: Mapping[str, Any]) -> str:
    """What the numbers of a group have in common: "Fine-tuning, 5 x 3 views, 20 labels per class"."""
    protocol = group["protocol"]
    words = [wording.label(protocol["name"] or "protocol unknown")]
    if protocol["trainable_blocks"] is not None:
        words.append(f"last {protocol['trainable_blocks']:g} blocks trained")
    setting = protocol["setting"]
    words.append("1 view" if setting == _ONE_VIEW else f"{setting} views" if " x " in setting else setting)
    if protocol["labels_per_class"] is not None:
        words.append(f"{wording.plural(protocol['labels_per_class'], 'label')} per class")
    return ", ".join(words)


def heading(group: Mapping[str, Any]) -> str:
    """`title` and the data set, with how many test samples the runs found in it."""
    found = sorted({row["num_samples"] for row in group["rows"] if row["num_samples"]})
    counts = " to ".join(dict.fromkeys(map(wording.count, found[:1] + found[-1:]))) or wording.UNKNOWN
    return f"{title(group)} · {group['data_set']['name']} ({counts} test samples)"


def table(group: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(headings, rows) of a group in words, for whoever draws or writes it."""
    metric = f"{wording.label(group['protocol']['metric'])}, %"
    headings = [metric, "one view", "run", "model", "pretrained on", "epochs", "evaluated", "cost"]
    rows = [_cells(row) for row in group["rows"]]
    shown = [any(row[column] for row in rows) for column in range(len(headings))]
    if group["protocol"]["setting"] == _ONE_VIEW:
        shown[1] = False
    return (
        [heading for heading, is_shown in zip(headings, shown, strict=True) if is_shown],
        [[cell for cell, is_shown in zip(row, shown, strict=True) if is_shown] for row in rows],
    )


def _cells(row: Row) -> list[str]:
    if row["kind"] == "published":
        run = f"published: {row['source']}"
    else:
        run = run_label(row["run_directory"])
    return [
        _value_words(row),
        "" if row["single_view"] is None else wording.decimal(row["single_view"]),
        run,
        row["model"] or "",
        "random weights" if row["start_from"] == "random" else row["pretrained_on"] or "",
        "" if row["epochs"] is None else wording.significant(row["epochs"], 4),
        ", ".join(filter(None, [row["evaluation"], row["schedule"]])),
        cost_words(row["cost"]),
    ]


def _value_words(row: Row) -> str:
    value = wording.decimal(row["value"])
    if row["interval"]:
        return f"{value} {wording.interval(row['interval'])}"
    if row["standard_error"] is not None:
        return f"{value} ± {wording.decimal(row['standard_error'])}"
    return value


def cost_words(cost: Mapping[str, Any] | None) -> str:
    """Hours of the scarcer device; else the time that passed; "" if neither is known."""
    if cost is None:
        return ""
    for name, unit in (("gpu_hours", "GPU h"), ("cpu_hours", "CPU h")):
        if cost[name]:
            return f"{wording.significant(cost[name])} {unit}"
    return "" if cost["seconds"] is None else f"{wording.duration(cost['seconds'])} passed"


def run_label(run_directory: str) -> str:
    """The last part of a run's URI, its name and digest."""
    return run_directory.rstrip("/").rpartition("/")[2]


def unfinished_lines(board: Mapping[str, Any]) -> list[str]:
    """What there is no number of, one line for each evaluation of a run."""
    return [f"{its['run_directory']}: {its['what']}: {its['reason']}" for its in board["unfinished"]]


def _unfinished(reports: Sequence[Report], unreadable: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for report in reports:
        about = {"run": report["name"], "run_directory": report["run_directory"]}
        yield from (about | entry for entry in report["unfinished"])
    for uri, reason in unreadable.items():
        yield {"run": None, "run_directory": uri, "what": "the whole run", "reason": reason}


def _rows(report: Report, evaluation: Mapping[str, Any]) -> Iterator[Row]:
    """One row per starting point that is done."""
    provenance, settings = report["provenance"], evaluation["settings"] or {}
    # Weights that were given were trained on what their own run says.
    trained_on = provenance["config"].get("weights") or (provenance["catalog"] or {}).get("uri")
    for start in STARTS:
        side = evaluation[start]
        if not side or side["state"] != "done" or not wording.is_number(side["value"]):
            continue
        is_pretrained = start == "pretrained"
        yield {
            "kind": "run",
            "run": report["name"],
            "run_directory": report["run_directory"],
            "evaluation": evaluation["name"],
            "start_from": start,
            "value": side["value"],
            "standard_error": side["standard_error"],
            "interval": side.get("interval"),
            "single_view": side["single_view"],
            "num_samples": side["num_samples"],
            "model": (provenance["config"].get("model") or {}).get("size"),
            "pretrained_on": trained_on if is_pretrained else None,
            "epochs": report["pretraining"]["epochs"] if is_pretrained else None,
            "schedule": settings.get("length"),
            "training_samples": settings.get("training_samples"),
            "cost": _cost(report, evaluation["name"], start),
            "source": None,
        }


def _cost(report: Report, evaluation: str, start: str) -> dict[str, float | None]:
    has_trained = start == "pretrained" and report["provenance"]["config"].get("weights") is None
    steps = [f"{evaluation}-{start}"] + ["pretrain"] * has_trained
    recorded = {step["name"]: step for step in (report.get("cost") or {}).get("by_step", ())}
    if all(name in recorded for name in steps):
        names = ("gpu_hours", "cpu_hours", "seconds")
        return {name: sum(recorded[step][name] for step in steps) for name in names}
    entry = next(entry for entry in report["evaluations"] if entry["name"] == evaluation)
    seconds = [entry[start]["seconds"]]
    if has_trained:
        seconds.append(report["pretraining"]["seconds"])
    known = sum(seconds) if all(map(wording.is_number, seconds)) else None
    return {"gpu_hours": None, "cpu_hours": None, "seconds": known}


def _protocol(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    settings = evaluation["settings"] or {}
    setting = settings.get("views") or _ONE_VIEW
    if "boxes" in settings:
        setting = "true boxes" if settings["boxes"] == "true ones" else FOUND_PEOPLE
    return {
        "name": evaluation["protocol"],
        "metric": evaluation["metric"],
        "setting": setting,
        "labels_per_class": settings.get("labels_per_class"),
        "trainable_blocks": settings.get("trainable_blocks"),
    }


def _data_set(report: Report, evaluation: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """(key of a public data set or None, what is known of the test samples)."""
    test_set = (evaluation["settings"] or {}).get("test_set")
    if test_set is not None:  # of its own, whatever the run is otherwise tested on
        return None, {"name": test_set, "digest": None}
    catalog = report["provenance"]["test_catalog"] or {}
    sizes = [evaluation[start]["num_samples"] for start in STARTS if evaluation[start]]
    num_samples = max(filter(None, sizes), default=0)
    known = known_data_set(num_classes=len(evaluation["per_class"]), num_test_samples=num_samples)
    if known is not None:
        return known, {"name": DATA_SETS[known].name, "digest": None}
    return None, {"name": catalog.get("uri") or wording.UNKNOWN, "digest": catalog.get("digest")}


def _references(protocol: Mapping[str, Any], known: str | None) -> Iterator[Row]:
    """What the papers report of this protocol on this data set."""
    if protocol["labels_per_class"] is not None or protocol["trainable_blocks"] is not None:
        return
    for its in PUBLISHED:
        if (its.data_set, its.protocol) == (known, protocol["name"]):
            if its.setting not in (None, protocol["setting"]):
                continue
            yield _published_row(its.value, its.source) | {
                "start_from": "random" if its.pretraining is None else "pretrained",
                "model": its.model,
                "pretrained_on": its.pretraining,
                "epochs": its.epochs,
            }


def _cited(evaluation: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[Row]:
    """The number that the recipe itself cites, unless it stands among the rows."""
    cited = evaluation["published"]
    if cited and not any(row["kind"] == "published" and row["value"] == cited["value"] for row in rows):
        yield _published_row(cited["value"], cited["source"])


def _published_row(value: float, source: str) -> Row:
    nothing = ("run", "run_directory", "evaluation", "standard_error", "interval", "single_view")
    unknown = ("num_samples", "model", "pretrained_on", "epochs", "schedule", "training_samples", "cost")
    known = {"kind": "published", "start_from": "pretrained", "value": value, "source": source}
    return dict.fromkeys(nothing + unknown) | known
