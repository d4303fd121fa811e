"""The results of a run as one dict, the content of report/report.json.

Every number of the page and of the terminal table comes from this dict. Units: percent for accuracies,
percentage points for their differences, seconds, shares in 0..1. A number that is not known, or was not
finite, is null. Fields:

schema              int, 1. Raised when a field changes its meaning; new fields may come without that.
name                the run's name. run_directory: its URI. created_utc: when the report was made, ISO 8601.
state               "complete": pretraining finished and everything the config declares was done;
                    "partial": else, and `unfinished` says why.
unfinished          [{"what", "reason"}]: pretraining, reconstruction, an evaluation or the probe of a
                    checkpoint, failed or not run.
warnings            sentences: what a reader should know before anything else.
provenance          config: the parsed config.yaml; code, versions, hardware, catalog, test_catalog, command
                    and run_created_utc: of environment.json, as they are there. The catalog of a mix has
                    its `sources` by name.
pretraining         see pretraining.py.
reconstruction      null if the run has none, else
  state, reason     as of an evaluation.
  num_samples, num_hidden_tokens, split
                    what the errors are the mean of.
  own_statistics    whether the model's patches were given the true mean and spread of each hidden patch,
                    which a model with normalised targets does not predict; the trivial predictors never are.
  model_mse, mean_visible_mse, nearest_visible_mse
                    mean squared error of hidden patches: predicted by the model, by the mean of the visible
                    pixels of the sample, by the nearest visible patch.
  ratio_to_best_trivial    model_mse / min(mean_visible_mse, nearest_visible_mse); below 1 is learning.
evaluations         see evaluations.py.
probe_curves        see probe_curves.py.
curves              see curves.py.
job                 see attempts.py; null of a run without steps.json.
cost                see cost.py; null if no attempt is recorded.
reproduction        see reproduction.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from mae_dist.report.attempts import job, why_unfinished
from mae_dist.report.cost import cost
from mae_dist.report.curves import curves
from mae_dist.report.evaluations import STARTS, evaluations, outcome
from mae_dist.report.pretraining import pretraining
from mae_dist.report.probe_curves import probe_curves
from mae_dist.report.reproduction import reproduction
from mae_dist.report.run_files import RECONSTRUCTION, RunFiles
from mae_dist.report.wording import is_number

SCHEMA = 1


def summarise(run: RunFiles, *, created: datetime) -> dict[str, Any]:
    """The content of report.json; the fields are listed at the top of this file."""
    trained = pretraining(run)
    errors = _reconstruction(run)
    evaluated = evaluations(run)
    probed = probe_curves(run, evaluated, trained)
    unfinished = list(_unfinished(run, trained, errors, evaluated, probed))
    environment, steps = run.environment, job(run.steps)
    return _writable(
        {
            "schema": SCHEMA,
            "name": run.config.get("name"),
            "run_directory": run.uri,
            "state": "partial" if unfinished else "complete",
            "unfinished": unfinished,
            "warnings": [entry["warning"] for entry in probed if entry["warning"]],
            "created_utc": created.isoformat(timespec="seconds"),
            "provenance": {
                "config": dict(run.config),
                "code": environment.get("code"),
                "versions": environment.get("versions"),
                "hardware": environment.get("hardware"),
                "catalog": environment.get("catalog"),
                "test_catalog": environment.get("test_catalog"),
                "command": environment.get("command"),
                "run_created_utc": environment.get("created_utc"),
            },
            "pretraining": trained,
            "reconstruction": errors,
            "evaluations": evaluated,
            "probe_curves": probed,
            "curves": curves(run, evaluated),
            "job": steps,
            "cost": cost(steps),
            "reproduction": reproduction(run),
        }
    )


def _reconstruction(run: RunFiles) -> dict[str, Any] | None:
    files, output = run.reconstruction, f"evaluations/{RECONSTRUCTION}"
    if files is None and run.config.get("weights") and run.steps and output not in run.steps_by_output:
        return None  # weights without a decoder
    has_samples = bool((run.config.get("data") or {}).get("test_catalog"))
    if files is None and not (has_samples and run.config.get("gallery_samples", 1)):
        return None
    result, state, reason = outcome(files, run.steps_by_output.get(output))
    fields = ["num_samples", "num_hidden_tokens", "split", "own_statistics"]
    fields += ["model_mse", "mean_visible_mse", "nearest_visible_mse"]
    numbers = {name: result.get(name) for name in fields}
    trivial = [numbers["mean_visible_mse"], numbers["nearest_visible_mse"]]
    best = min(filter(is_number, trivial), default=0.0)
    model = numbers["model_mse"]
    return {
        "state": state,
        "reason": reason,
        **numbers,
        "ratio_to_best_trivial": model / best if is_number(model) and best > 0 else None,
    }


def _unfinished(
    run: RunFiles,
    trained: Mapping[str, Any],
    errors: Mapping[str, Any] | None,
    evaluated: Sequence[Mapping[str, Any]],
    probed: Sequence[Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    if not trained["is_finished"]:
        planned = f" of {trained['planned_steps']}" if trained["planned_steps"] else ""
        logged = f"no exported weights yet; logged {trained['steps']}{planned} steps"
        stands = why_unfinished(run.steps_by_output.get(""))
        logged += f"; {stands}" if stands else ""
        yield {"what": "pretraining", "reason": trained["reason"] or logged}
    if errors and errors["state"] != "done":
        yield {"what": RECONSTRUCTION, "reason": errors["reason"]}
    for entry in evaluated:
        for start in STARTS:
            side = entry[start]
            if side and side["state"] != "done":
                yield {"what": f"{entry['name']} from {start} weights", "reason": side["reason"]}
    for entry in probed:
        for point in entry["points"]:
            if point["state"] != "done":
                yield {"what": f"{entry['name']} at step {point['step']}", "reason": point["reason"]}


def _writable(value: Any) -> Any:
    """NaN and infinities, which JSON does not have, become null; undecodable bytes of file names \\udcXX."""
    if isinstance(value, dict):
        return {_writable(key): _writable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(entry) for entry in value]
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
