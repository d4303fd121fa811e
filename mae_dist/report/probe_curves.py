"""How an evaluation changes while the pretraining goes on, as plain data for report.json.

One entry per evaluation of which checkpoints were probed, in the config's order:

name, metric      as of the evaluation.
points            [{"step", "epoch", "is_final", "state", "reason", "value", "standard_error", "interval"}] in
                  the order of pretraining steps; the last one, is_final, is the evaluation of the exported
                  weights. Numbers as of an evaluation; epoch null where it is not known.
best              {"step", "epoch", "value", "checkpoint"} of the highest value, the first of equals;
                  checkpoint is below the run directory, or null if it was deleted. null without a value.
random            the value from random weights, or null.
fall              best - newest value in percentage points, 0 if the newest is the best; null below two
                  values.
fall_standard_error      sqrt(a^2 + b^2) of the two standard errors.
warning           a sentence, if the fall is more than two of those; else null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mae_dist.report import wording
from mae_dist.report.evaluations import SIGNIFICANT, difference_error, outcome
from mae_dist.report.run_files import PROBE_FOLDER, EvaluationFiles, RunFiles
from mae_dist.report.wording import is_number


def probe_curves(
    run: RunFiles, evaluations: Sequence[Mapping[str, Any]], pretraining: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The entries described at the top of this file; `evaluations` and `pretraining` are the report's."""
    probes: dict[str, list[EvaluationFiles]] = {}
    for files in run.probes:
        name, _ = probe_of(files.folder)
        probes.setdefault(name, []).append(files)
    known = {entry["name"]: entry for entry in evaluations}
    names = [name for name in known if name in probes] + [name for name in probes if name not in known]
    return [_probe_curve(name, probes[name], known.get(name) or {}, run, pretraining) for name in names]


def probe_of(folder: str) -> tuple[str, int]:
    """(evaluation, pretraining step) of a folder `NAME-pretrained@STEP`."""
    match = PROBE_FOLDER.fullmatch(folder)
    assert match, f"{folder} holds no probe of a checkpoint"
    return match[1], int(match[2])


def when(point: Mapping[str, Any]) -> str:
    """Where in the pretraining a point or the best lies: "epoch 12 (step 2,400)"."""
    step = f"step {wording.count(point['step'])}"
    return step if point["epoch"] is None else f"epoch {wording.significant(point['epoch'])} ({step})"


def _probe_curve(
    name: str,
    probes: Sequence[EvaluationFiles],
    evaluation: Mapping[str, Any],
    run: RunFiles,
    pretraining: Mapping[str, Any],
) -> dict[str, Any]:
    points = _points(probes, evaluation, run, pretraining)
    measured = [point for point in points if is_number(point["value"])]
    known: dict[str, Any] = dict.fromkeys(("best", "fall", "fall_standard_error", "warning"))
    if measured:
        newest = measured[-1]
        best = max(measured, key=lambda point: point["value"])
        checkpoint = _checkpoint(best, run.checkpoints)
        known["best"] = {part: best[part] for part in ("step", "epoch", "value")} | {"checkpoint": checkpoint}
    if len(measured) > 1:
        known["fall"] = fall = best["value"] - newest["value"]
        known["fall_standard_error"] = error = difference_error(best, newest)
        if error is not None and fall > SIGNIFICANT * error:
            known["warning"] = _warning(name, known["best"], newest, fall / error)
    return {
        "name": name,
        "metric": evaluation.get("metric", "top1"),
        "points": points,
        "random": (evaluation.get("random") or {}).get("value"),
        **known,
    }


def _points(
    probes: Sequence[EvaluationFiles],
    evaluation: Mapping[str, Any],
    run: RunFiles,
    pretraining: Mapping[str, Any],
) -> list[dict[str, Any]]:
    by_step: dict[int, dict[str, Any]] = {}
    for files in probes:
        _, step = probe_of(files.folder)
        result, state, reason = outcome(files, run.steps_by_output.get(f"evaluations/{files.folder}"))
        by_step[step] = {"is_final": False, "state": state, "reason": reason, **_numbers(result)}
    final = evaluation.get("pretrained")
    if final and final["state"] == "done" and pretraining["is_finished"]:
        # In the place of a probe of the last step: those are the weights that the run leaves.
        by_step[pretraining["steps"]] = {"is_final": True, "state": "done", "reason": None, **_numbers(final)}
    share = pretraining["epochs"] / pretraining["steps"] if is_number(pretraining["epochs"]) else None
    return [
        {"step": step, "epoch": None if share is None else step * share, **by_step[step]}
        for step in sorted(by_step)
    ]


def _numbers(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: result.get(name) for name in ("value", "standard_error", "interval")}


def _checkpoint(point: Mapping[str, Any], checkpoints: Sequence[str]) -> str | None:
    if point["is_final"]:
        return "export/model.safetensors"
    steps = {int(found[1]): found[0] for name in checkpoints if (found := re.fullmatch(r"step-(\d+)", name))}
    return f"checkpoints/{steps[point['step']]}" if point["step"] in steps else None


def _warning(name: str, best: Mapping[str, Any], newest: Mapping[str, Any], num_errors: float) -> str:
    fall = wording.decimal(best["value"] - newest["value"])
    kept = f"is {best['checkpoint']}" if best["checkpoint"] else "was deleted"
    return (
        f"{wording.label(name)} has fallen by {fall} points ({wording.decimal(num_errors)} standard errors) "
        f"from its best, {wording.decimal(best['value'])} % at {when(best)}, to "
        f"{wording.decimal(newest['value'])} % at {when(newest)}. The best checkpoint {kept}."
    )
