"""What came of every evaluation of a run, beside its baseline, as plain data for report.json.

One entry per evaluation, in the config's order:

name, protocol, metric   metric is "top1", or "frame_map" of action detection.
pretrained, random       started from the pretrained and from random weights; null if not declared, else
                  {"state": "done"|"failed"|"missing", "reason", "value", "standard_error", "interval",
                  "top5", "top5_interval", "single_view", "num_samples", "seconds", "faults"}; numbers null
                  unless done.
                  interval: the 95 % confidence interval of "value", [low, high]. single_view: "value" if each
                  sample were looked at from one side only (settings.views: clips x crops). faults: how often
                  an unreadable sample was replaced, all listed in the evaluation's faults.jsonl. reason:
                  also of what was cancelled, skipped or still runs.
baseline          what "pretrained" is compared with: "random", unless the config names another evaluation
                  whose "random" it is then; compared_with is the name of that one, else null.
gain              pretrained - baseline. gain_standard_error: sqrt(a^2 + b^2) of the two standard errors,
                  as if both were measured on different samples; on the same samples it is rather less.
verdict           "gain" or "loss" if the gain is more than two standard errors from zero, "none" if not,
                  null if it is not known.
chance            top-1 of always naming the most frequent class of the test samples, else null.
published         {"value", "source"} or null. settings: of the evaluation, as its result states them.
tried             {"pretrained": [...], "random": [...]}: what was chosen from on held-out training samples,
                  the best first, which is the one that was scored: of a probe {"layer", "pool", "base_lr",
                  "weight_decay", "validation"}, of kNN {"layer", "pool", "neighbours", "validation"};
                  validation in percent, null if it diverged. tried_standard_error: of the best one's, by the
                  number of held-out samples, or null.
per_class         [{"class", "total", "pretrained", "random"}], accuracies or average precisions in percent.
confusion         {"pretrained": [...], "random": [...]}: the most frequent mistakes, [{"class", "predicted",
                  "count", "share"}]; share: of the class's test samples, null if not known.
corruptions       {"pretrained": ..., "random": ...}: of a test on corrupted images as its result has it
                  {"mean_corruption_error", "mean_error", "table", "published"}, else null.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from mae_dist.report.attempts import why_unfinished
from mae_dist.report.run_files import EvaluationFiles, RunFiles
from mae_dist.report.wording import is_number

STARTS = ("pretrained", "random")
SIGNIFICANT = 2.0
"""Standard errors beyond which a difference is called one."""
_NUMBERS = ("value", "standard_error", "interval", "top5", "top5_interval", "single_view", "num_samples")


def evaluations(run: RunFiles) -> list[dict[str, Any]]:
    """The entries described at the top of this file."""
    declared = run.config.get("evaluations") or {}
    found: dict[str, dict[str, EvaluationFiles | None]] = {name: {} for name in declared}
    for files in run.evaluations:
        name, start = evaluation_of(files)
        found.setdefault(name, {})[start] = files
    # Those that have not begun have no folder yet, and are not all in the config by this name.
    for output in run.steps_by_output:
        planned = re.fullmatch(r"evaluations/(.+)-(pretrained|random)", output)
        if planned is not None:
            found.setdefault(planned[1], {}).setdefault(planned[2], None)
    entries = {
        name: _evaluation(name, declared.get(name) or {}, starts, run) for name, starts in found.items()
    }
    for name, entry in entries.items():
        other = (declared.get(name) or {}).get("baseline")
        baseline = entries[other]["random"] if other in entries else entry["random"]
        gain, error = _gain(entry["pretrained"], baseline)
        compared = {"baseline": baseline, "compared_with": other, "gain": gain, "gain_standard_error": error}
        entry |= compared | {"verdict": _verdict(gain, error)}
    return list(entries.values())


def evaluation_of(files: EvaluationFiles) -> tuple[str, str]:
    """(evaluation, start) that a folder holds: as its result says, else by its name, `NAME-random`."""
    if files.result and "evaluation" in files.result:
        return files.result["evaluation"], files.result.get("start_from", "pretrained")
    match = re.fullmatch(r"(.+)[-_.](pretrained|random)", files.folder)
    return (match[1], match[2]) if match else (files.folder, "pretrained")


def outcome(
    files: EvaluationFiles | None, step: Mapping[str, Any] | None = None
) -> tuple[Mapping[str, Any], str, str | None]:
    """(result, state, reason) of an evaluation, or of the reconstruction; done only with its result in hand.

    `step` is what the driver says of it in steps.json, where that is known.
    """
    if files is not None and files.problem:
        return {}, "failed", files.problem
    done = (files.done if files is not None else None) or {}
    if done.get("state") == "done":
        if files is not None and files.result is not None:
            return files.result, "done", None
        return {}, "failed", "DONE.json is there, but result.json is missing"
    waits = why_unfinished(step)
    if waits is not None:
        return {}, "missing", waits
    if done or (step or {}).get("state") == "failed":
        return {}, "failed", done.get("reason") or (step or {}).get("reason") or "no reason was recorded"
    return {}, "missing", "not run yet" if files is None else "not finished yet"


def difference_error(first: Mapping[str, Any], second: Mapping[str, Any]) -> float | None:
    """sqrt(a^2 + b^2) of two standard errors; None unless both are known."""
    errors = first["standard_error"], second["standard_error"]
    return math.hypot(*errors) if all(map(is_number, errors)) else None


def _evaluation(
    name: str, declared: Mapping[str, Any], starts: Mapping[str, EvaluationFiles | None], run: RunFiles
) -> dict[str, Any]:
    outcomes: dict[str, tuple[Mapping[str, Any], dict[str, Any]] | None] = dict.fromkeys(STARTS)
    wanted = declared.get("start_from", STARTS) if declared else ()
    for start in STARTS:
        if start in starts or start in wanted:
            step = run.steps_by_output.get(f"evaluations/{name}-{start}")
            outcomes[start] = _side(starts.get(start), step)
    results = {start: found[0] if found else {} for start, found in outcomes.items()}
    sides = {start: found[1] if found else None for start, found in outcomes.items()}
    known = results["pretrained"] or results["random"]
    per_class = _per_class(results["pretrained"], results["random"])
    largest = max((its["total"] for its in per_class if known.get("metric", "top1") == "top1"), default=0)
    return {
        "name": name,
        "protocol": known.get("protocol") or declared.get("protocol"),
        "metric": known.get("metric", "top1"),
        **sides,
        "chance": 100 * largest / sum(its["total"] for its in per_class) if largest else None,
        "published": known.get("published") or declared.get("published"),
        "tried": {start: _tried(results[start]) for start in STARTS},
        "tried_standard_error": {start: _tried_error(results[start]) for start in STARTS},
        "per_class": per_class,
        "confusion": {start: _confusion(results[start]) for start in STARTS},
        "corruptions": {start: results[start].get("corruptions") for start in STARTS},
        "settings": known.get("settings"),
    }


def _side(
    files: EvaluationFiles | None, step: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    result, state, reason = outcome(files, step)
    numbers = {name: result.get(name) for name in _NUMBERS}
    seconds = (files.done or {}).get("seconds") if files else None
    faults = files.num_faults if files else None
    return result, {"state": state, "reason": reason, **numbers, "seconds": seconds, "faults": faults}


def _gain(
    pretrained: Mapping[str, Any] | None, baseline: Mapping[str, Any] | None
) -> tuple[float | None, float | None]:
    if not (pretrained and baseline and is_number(pretrained["value"]) and is_number(baseline["value"])):
        return None, None
    return pretrained["value"] - baseline["value"], difference_error(pretrained, baseline)


def _verdict(gain: float | None, error: float | None) -> str | None:
    if gain is None or error is None:
        return None
    if abs(gain) <= SIGNIFICANT * error:
        return "none"
    return "gain" if gain > 0 else "loss"


def _tried(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    # The first of equals was chosen, and sorting leaves it before the others.
    rows = result.get("table") or []
    return sorted(
        rows, key=lambda row: row["validation"] if is_number(row.get("validation")) else -1.0, reverse=True
    )


def _tried_error(result: Mapping[str, Any]) -> float | None:
    best = next((row.get("validation") for row in _tried(result)), None)
    num_samples = (result.get("settings") or {}).get("held_out_samples")
    if not (is_number(best) and num_samples):
        return None
    return math.sqrt(best * (100 - best) / num_samples)


def _per_class(pretrained: Mapping[str, Any], random: Mapping[str, Any]) -> list[dict[str, Any]]:
    classes: dict[str, dict[str, Any]] = {}
    for start, result in (("pretrained", pretrained), ("random", random)):
        for entry in result.get("per_class") or []:
            row = {"class": entry["class"], "total": entry["total"], "pretrained": None, "random": None}
            row = classes.setdefault(str(entry["class"]), row)
            share = entry["correct"] / entry["total"] if "correct" in entry and entry["total"] else None
            row[start] = entry.get("value") if share is None else 100 * share
    return list(classes.values())


def _confusion(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    totals = {str(entry["class"]): entry["total"] for entry in result.get("per_class") or []}
    rows = []
    for mistake in result.get("confusion") or []:
        total = totals.get(str(mistake["class"]))
        share = mistake["count"] / total if total else None
        rows.append({name: mistake[name] for name in ("class", "predicted", "count")} | {"share": share})
    return sorted(rows, key=lambda row: -row["count"])
