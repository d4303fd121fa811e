"""The results of a run as one dict, the content of report/report.json.

Every number of the page and of the terminal table comes from this dict. Units: percent for accuracies,
percentage points for their differences, seconds, shares in 0..1. A number that is not known, or was not
finite, is null. Fields:

schema              int, 1. Raised when a field changes its meaning; new fields may come without that.
name                the run's name. run_directory: its URI. created_utc: when the report was made, ISO 8601.
state               "complete": pretraining finished and everything the config declares was done;
                    "partial": else, and `unfinished` says why.
unfinished          [{"what", "reason"}]: pretraining, reconstruction or an evaluation, failed or not run.
provenance          config: the parsed config.yaml; code, versions, hardware, catalog, test_catalog, command
                    and run_created_utc: of environment.json, as they are there. The catalog of a mix has
                    its `sources` by name.
pretraining
  steps             last step logged. planned_steps: those the config asks for, null if it cannot be told.
  epochs            passes over the catalog at the last logged step. samples: steps * global batch.
  is_finished       whether the final weights were exported. reason: why it failed, null if it did not.
  loss_first, loss_last    of the first and the last logged line.
  seconds           wall-clock of training; after a resume only the steps that count are timed.
  samples_per_second       median of the logged lines, over all workers together.
  tflops, mfu       medians: operations the model needed per second and worker / 1e12, and as a share of the
                    peak of its device; null where nothing is known of that.
  data_wait_share   share of the step time spent waiting for data, lines weighted by their time.
  decode_cpu_ms, read_bytes_per_second     medians: CPU time per decoded sample, bytes read.
  storage_requests, storage_retries        sums: to object stores, and repetitions of them.
  faults            how often an unreadable sample was replaced; torn_log_lines: lines cut off by a kill.
  faulty_samples    [{"uri", "sample", "reason", "times", "first_step"}], the most frequent first.
reconstruction      null if the run has none, else
  state, reason     as below.
  num_samples, num_hidden_tokens, split
                    what the errors are the mean of.
  own_statistics    whether the model's patches were given the true mean and spread of each hidden patch,
                    which a model with normalised targets does not predict; the trivial predictors never are.
  model_mse, mean_visible_mse, nearest_visible_mse
                    mean squared error of hidden patches: predicted by the model, by the mean of the visible
                    pixels of the sample, by the nearest visible patch.
  ratio_to_best_trivial    model_mse / min(mean_visible_mse, nearest_visible_mse); below 1 is learning.
evaluations         one entry per evaluation, in the config's order
  name, protocol, metric   metric is "top1", or "frame_map" of action detection.
  pretrained, random       started from the pretrained and from random weights; null if not declared, else
                    {"state": "done"|"failed"|"missing", "reason", "value", "standard_error", "top5",
                    "single_view", "num_samples", "seconds", "faults"}; numbers null unless done. single_view:
                    "value" if each sample were looked at from one side only (settings.views: clips x crops).
                    faults: how often an unreadable sample was replaced, all listed in the evaluation's
                    faults.jsonl.
  gain              pretrained - random. gain_standard_error: sqrt(a^2 + b^2) of the two standard errors,
                    as if both were measured on different samples; on the same samples it is rather less.
  verdict           "gain" or "loss" if the gain is more than two standard errors from zero, "none" if not,
                    null if it is not known.
  chance            top-1 of always naming the most frequent class of the test samples, else null.
  published         {"value", "source"} or null. settings: of the evaluation, as its result states them.
  per_class         [{"class", "total", "pretrained", "random"}], accuracies or average precisions in percent.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from mae_dist.config.duration import parse_duration
from mae_dist.report.run_files import RECONSTRUCTION, EvaluationFiles, RunFiles
from mae_dist.report.wording import is_number

SCHEMA = 1
STARTS = ("pretrained", "random")
_SIGNIFICANT = 2.0
"""Standard errors beyond which a gain is called one."""


def summarise(run: RunFiles, *, created: datetime) -> dict[str, Any]:
    """The content of report.json; the fields are listed at the top of this file."""
    pretraining = _pretraining(run)
    reconstruction = _reconstruction(run)
    evaluations = _evaluations(run)
    unfinished = list(_unfinished(pretraining, reconstruction, evaluations))
    environment = run.environment
    return _writable(
        {
            "schema": SCHEMA,
            "name": run.config.get("name"),
            "run_directory": run.uri,
            "state": "partial" if unfinished else "complete",
            "unfinished": unfinished,
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
            "pretraining": pretraining,
            "reconstruction": reconstruction,
            "evaluations": evaluations,
        }
    )


def _pretraining(run: RunFiles) -> dict[str, Any]:
    lines = run.metrics
    last = lines[-1] if lines else {}
    steps = last.get("step", 0)
    medians = ("samples_per_second", "tflops", "mfu", "decode_cpu_ms", "read_bytes_per_second")
    return {
        "steps": steps,
        "planned_steps": _planned_steps(run),
        "epochs": last.get("epoch"),
        "samples": steps * _section(run.config, "train").get("global_batch", 0),
        "is_finished": run.is_exported,
        "reason": (run.done or {}).get("reason"),
        "loss_first": lines[0].get("loss") if lines else None,
        "loss_last": last.get("loss"),
        "seconds": training_seconds([line.get("seconds") for line in lines]),
        **{name: _over(lines, name, statistics.median) for name in medians},
        **{name: _over(lines, name, math.fsum) for name in ("storage_requests", "storage_retries")},
        "data_wait_share": _data_wait_share(lines),
        "faults": len(run.faults),
        "faulty_samples": _faulty_samples(run.faults),
        "torn_log_lines": run.torn_lines,
    }


def training_seconds(clock: Sequence[object]) -> float | None:
    """Time passed by a clock read at every logged line, which begins at 0 again when a run is resumed."""
    readings = [reading for reading in clock if is_number(reading)]
    if not readings:
        return None
    pairs = zip([0.0, *readings], readings, strict=False)
    return math.fsum(now - before if now >= before else now for before, now in pairs)


def _over(
    lines: Sequence[Mapping[str, Any]], name: str, figure: Callable[[list[float]], float]
) -> float | None:
    values = [line[name] for line in lines if is_number(line.get(name))]
    return figure(values) if values else None


def _data_wait_share(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Weighted by 1 / samples_per_second, the time of a step, as lines are equally many steps apart."""
    weighted = [
        (1 / line["samples_per_second"], line["data_wait_share"])
        for line in lines
        if is_number(line.get("data_wait_share")) and is_number(line.get("samples_per_second"))
        if line["samples_per_second"] > 0
    ]
    total = math.fsum(weight for weight, _ in weighted)
    return math.fsum(weight * share for weight, share in weighted) / total if weighted else None


def _planned_steps(run: RunFiles) -> int | None:
    train = _section(run.config, "train")
    num_samples = _section(run.environment, "catalog").get("num_samples")
    try:
        length = parse_duration(train.get("length"))
    except ValueError:
        return None
    if length.unit == "epochs" and not (num_samples and train.get("global_batch")):
        return None
    return length.steps(
        samples_per_epoch=num_samples or 0,
        global_batch=train.get("global_batch") or 1,
    )


def _faulty_samples(faults: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    by_uri: dict[str, dict[str, Any]] = {}
    for fault in faults:
        known = by_uri.setdefault(
            f"{fault.get('uri')}\n{fault.get('sample')}",
            {
                "uri": fault.get("uri"),
                "sample": fault.get("sample"),
                "reason": fault.get("reason"),
                "times": 0,
                "first_step": fault["step"],
            },
        )
        known["times"] += 1
        known["first_step"] = min(known["first_step"], fault["step"])
    return sorted(by_uri.values(), key=lambda entry: (-entry["times"], entry["first_step"]))


def _reconstruction(run: RunFiles) -> dict[str, Any] | None:
    files = run.reconstruction
    is_declared = bool(_section(run.config, "data").get("test_catalog")) and run.config.get(
        "gallery_samples", 1
    )
    if files is None and not is_declared:
        return None
    result, state, reason = _outcome(files)
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


def _outcome(files: EvaluationFiles | None) -> tuple[Mapping[str, Any], str, str | None]:
    """(result, state, reason); an evaluation counts as done only with its result in hand."""
    if files is None:
        return {}, "missing", "not run yet"
    done = files.done or {}
    if files.problem:
        return {}, "failed", files.problem
    if done.get("state") == "failed":
        return {}, "failed", done.get("reason") or "no reason was recorded"
    if not done:
        return {}, "missing", "not finished yet"
    if files.result is None:
        return {}, "failed", "DONE.json is there, but result.json is missing"
    return files.result, "done", None


def evaluation_of(files: EvaluationFiles) -> tuple[str, str]:
    """(evaluation, start) that a folder holds: as its result says, else by its name, `NAME-random`."""
    if files.result and "evaluation" in files.result:
        return files.result["evaluation"], files.result.get("start_from", "pretrained")
    match = re.fullmatch(r"(.+)[-_.](pretrained|random)", files.folder)
    return (match[1], match[2]) if match else (files.folder, "pretrained")


def _evaluations(run: RunFiles) -> list[dict[str, Any]]:
    declared = _section(run.config, "evaluations")
    found: dict[str, dict[str, EvaluationFiles]] = {name: {} for name in declared}
    for files in run.evaluations:
        name, start = evaluation_of(files)
        found.setdefault(name, {})[start] = files
    return [_evaluation(name, declared.get(name) or {}, starts) for name, starts in found.items()]


def _evaluation(
    name: str, declared: Mapping[str, Any], starts: Mapping[str, EvaluationFiles]
) -> dict[str, Any]:
    outcomes: dict[str, tuple[Mapping[str, Any], dict[str, Any]] | None] = dict.fromkeys(STARTS)
    wanted = declared.get("start_from", STARTS) if declared else ()
    for start in STARTS:
        if start in starts or start in wanted:
            outcomes[start] = _side(starts.get(start))
    results = {start: outcome[0] if outcome else {} for start, outcome in outcomes.items()}
    sides = {start: outcome[1] if outcome else None for start, outcome in outcomes.items()}
    known = results["pretrained"] or results["random"]
    gain, error = _gain(sides["pretrained"], sides["random"])
    per_class = _per_class(results["pretrained"], results["random"])
    largest = max((its["total"] for its in per_class if known.get("metric", "top1") == "top1"), default=0)
    return {
        "name": name,
        "protocol": known.get("protocol") or declared.get("protocol"),
        "metric": known.get("metric", "top1"),
        **sides,
        "gain": gain,
        "gain_standard_error": error,
        "verdict": _verdict(gain, error),
        "chance": 100 * largest / sum(its["total"] for its in per_class) if largest else None,
        "published": known.get("published") or declared.get("published"),
        "per_class": per_class,
        "settings": known.get("settings"),
    }


def _side(files: EvaluationFiles | None) -> tuple[Mapping[str, Any], dict[str, Any]]:
    result, state, reason = _outcome(files)
    numbers = {
        name: result.get(name) for name in ("value", "standard_error", "top5", "single_view", "num_samples")
    }
    seconds = (files.done or {}).get("seconds") if files else None
    faults = files.num_faults if files else None
    return result, {"state": state, "reason": reason, **numbers, "seconds": seconds, "faults": faults}


def _gain(
    pretrained: Mapping[str, Any] | None, random: Mapping[str, Any] | None
) -> tuple[float | None, float | None]:
    if not (pretrained and random and is_number(pretrained["value"]) and is_number(random["value"])):
        return None, None
    gain = pretrained["value"] - random["value"]
    errors = pretrained["standard_error"], random["standard_error"]
    return gain, math.hypot(*errors) if all(map(is_number, errors)) else None


def _verdict(gain: float | None, error: float | None) -> str | None:
    if gain is None or error is None:
        return None
    if abs(gain) <= _SIGNIFICANT * error:
        return "none"
    return "gain" if gain > 0 else "loss"


def _per_class(pretrained: Mapping[str, Any], random: Mapping[str, Any]) -> list[dict[str, Any]]:
    classes: dict[str, dict[str, Any]] = {}
    for start, result in (("pretrained", pretrained), ("random", random)):
        for entry in result.get("per_class") or []:
            row = {"class": entry["class"], "total": entry["total"], "pretrained": None, "random": None}
            row = classes.setdefault(str(entry["class"]), row)
            share = entry["correct"] / entry["total"] if "correct" in entry and entry["total"] else None
            row[start] = entry.get("value") if share is None else 100 * share
    return list(classes.values())


def _unfinished(
    pretraining: Mapping[str, Any],
    reconstruction: Mapping[str, Any] | None,
    evaluations: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    problems = []
    if not pretraining["is_finished"]:
        planned = f" of {pretraining['planned_steps']}" if pretraining["planned_steps"] else ""
        logged = f"no exported weights yet; logged {pretraining['steps']}{planned} steps"
        problems.append({"what": "pretraining", "reason": pretraining["reason"] or logged})
    if reconstruction and reconstruction["state"] != "done":
        problems.append({"what": RECONSTRUCTION, "reason": reconstruction["reason"]})
    for entry in evaluations:
        for start in STARTS:
            side = entry[start]
            if side and side["state"] != "done":
                problems.append({"what": f"{entry['name']} from {start} weights", "reason": side["reason"]})
    return problems


def _section(mapping: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of the config or environment; {} where it is null or left out."""
    return mapping.get(name) or {}


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
