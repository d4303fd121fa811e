"""The numbers of a report in MLflow, for whoever compares runs there: one MLflow run per run directory.

Off unless a recipe names a tracking server (log.mlflow). Logged again, the same MLflow run goes on:

metrics     pretraining/loss, ... over steps, as report.json's curves have them; probe/NAME over pretraining
            steps; evaluation/NAME/{pretrained,random,gain,...}; cost/{cpu_hours,gpu_hours}
params      the config, by dotted field; one that has changed since keeps its first value, as MLflow wants it
tags        run directory, state, code revision, catalog digest
artifacts   what is given as documents: the page, report.json, config.yaml
"""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mae_dist.report.wording import is_number

Report = Mapping[str, Any]

EXPERIMENT = "mae_dist"
"""Unless MLFLOW_EXPERIMENT_NAME says otherwise."""
RUN_TAG = "mae_dist.run_directory"
_METRICS_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100
"""What a tracking server takes in one request."""
_PARAM_CHARACTERS = 500


class TrackingError(RuntimeError):
    """The report could not be logged: to which server, and why."""


def problem(tracking_uri: str | None) -> str | None:
    """Why nothing can be logged from here, known before anything is started; None if nothing is wrong."""
    if tracking_uri is None or importlib.util.find_spec("mlflow") is not None:
        return None
    return (
        f"log.mlflow: {tracking_uri} is to be told, but mlflow is not installed here; "
        "pip install 'mae_dist[mlflow]', or --set log.mlflow=null"
    )


def log_report(report: Report, documents: Mapping[str, str], *, tracking_uri: str) -> str:
    """Log a report's numbers and documents (path: text); returns the id of the MLflow run.

    Raises TrackingError if mlflow is not installed or the server does not take them.
    """
    missing = problem(tracking_uri)
    if missing is not None:
        raise TrackingError(missing)
    mlflow = _mlflow()
    try:
        client = mlflow.MlflowClient(tracking_uri=tracking_uri)
        run_id = _run_of(client, report)
        _log_params(client, run_id, report)
        _log_metrics(client, run_id, report)
        for name, value in _tags(report).items():
            client.set_tag(run_id, name, value)
        for path, text in documents.items():
            client.log_text(run_id, text, path)
        client.set_terminated(run_id, "FINISHED" if report["state"] == "complete" else "FAILED")
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise TrackingError(f"log.mlflow: {tracking_uri} did not take the report: {error}") from error
    return run_id


def metrics(report: Report) -> Iterator[tuple[str, int, float]]:
    """(name, pretraining step, value) of all numbers that change, in the order of steps within a name."""
    for field, curve in report["curves"]["pretraining"].items():
        for step, value in zip(curve["step"], curve["mean"], strict=True) if curve else []:
            yield f"pretraining/{field}", step, value
    for entry in report["probe_curves"]:
        for point in entry["points"]:
            yield f"probe/{entry['name']}", point["step"], point["value"]
    last = report["pretraining"]["steps"]
    for name, value in _results(report):
        yield name, last, value


def _results(report: Report) -> Iterator[tuple[str, Any]]:
    for entry in report["evaluations"]:
        stem = f"evaluation/{entry['name']}"
        yield f"{stem}/gain", entry["gain"]
        for start in ("pretrained", "random"):
            side = entry[start] or {}
            low, high = side.get("interval") or (None, None)
            yield f"{stem}/{start}", side.get("value")
            yield f"{stem}/{start}_low", low
            yield f"{stem}/{start}_high", high
    for name in ("cpu_hours", "gpu_hours"):
        yield f"cost/{name}", (report["cost"] or {}).get(name)
    yield "reconstruction/model_mse", (report["reconstruction"] or {}).get("model_mse")
    yield "pretraining/faults", report["pretraining"]["faults"]


def _mlflow() -> Any:
    """The library, which most do not have."""
    import mlflow  # pyright: ignore[reportMissingImports]

    return mlflow


def _run_of(client: Any, report: Report) -> str:
    """The id of the MLflow run of this run directory, which is made where there is none."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    known = client.get_experiment_by_name(name)
    experiment = client.create_experiment(name) if known is None else known.experiment_id
    where = report["run_directory"]
    quote = '"' if "'" in where else "'"
    its = f"tags.`{RUN_TAG}` = {quote}{where}{quote}"
    found = client.search_runs([experiment], filter_string=its, max_results=1)
    if found:
        return found[0].info.run_id
    run = client.create_run(experiment, run_name=report["name"], tags={RUN_TAG: report["run_directory"]})
    return run.info.run_id


def _log_params(client: Any, run_id: str, report: Report) -> None:
    known = client.get_run(run_id).data.params
    params = [
        _mlflow().entities.Param(_allowed(name), str(value)[:_PARAM_CHARACTERS])
        for name, value in _flat(report["provenance"]["config"])
        if _allowed(name) not in known
    ]
    for some in _parts(params, _PARAMS_AT_ONCE):
        client.log_batch(run_id, params=some)


def _log_metrics(client: Any, run_id: str, report: Report) -> None:
    """Only what is new: a server keeps every value that it is told, also the same one twice."""
    known, last = client.get_run(run_id).data.metrics, report["pretraining"]["steps"]
    reached = {name: max(point.step for point in client.get_metric_history(run_id, name)) for name in known}
    now = int(time.time() * 1000)
    new = []
    for name, step, value in metrics(report):
        key = _allowed(name)
        is_new = key not in known or step > reached[key] or (step == last and value != known[key])
        if is_number(value) and is_new:
            new.append(_mlflow().entities.Metric(key, float(value), now, step))
    for some in _parts(new, _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=some)


def _tags(report: Report) -> dict[str, str]:
    provenance = report["provenance"]
    tags = {
        "mae_dist.state": report["state"],
        "mae_dist.revision": (provenance["code"] or {}).get("revision"),
        "mae_dist.catalog_digest": (provenance["catalog"] or {}).get("digest"),
        "mae_dist.warnings": " ".join(report["warnings"]),
    }
    return {name: str(value) for name, value in tags.items() if value}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _parts(entries: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (entries[start : start + size] for start in range(0, len(entries), size))


def _allowed(name: str) -> str:
    """A name in the characters that MLflow allows."""
    return re.sub(r"[^\w\-. /:]", "_", name)
