"""What lies in a run directory, read once and without judging it.

The directory of a run that was killed, or is still running, is read like a finished one: a file that is not
there yet is None, a torn line is skipped and counted. What the numbers mean is `summary.py`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from mae_dist import storage

RECONSTRUCTION = "reconstruction"
"""Folder below evaluations/ that holds the reconstruction errors and the gallery."""
PROBE_FOLDER = re.compile(r"(.+)-pretrained@(\d+)")
"""Folder below evaluations/ of a checkpoint that was kept: (evaluation, pretraining step)."""


class NotARunError(ValueError):
    """The place named is not a run directory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationFiles:
    """One folder below evaluations/."""

    folder: str
    done: Mapping[str, Any] | None
    """DONE.json, or else FAILED.json; None while the evaluation runs, or if it never got so far."""
    result: Mapping[str, Any] | None
    """result.json."""
    metrics: list[dict[str, Any]]
    """Lines of metrics.jsonl."""
    num_faults: int
    """Lines of faults.jsonl: how often an unreadable sample was replaced."""
    problem: str | None
    """Why a file of this folder could not be read, where one could not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFiles:
    """Everything a report is made from."""

    uri: str
    config_text: str
    """config.yaml as it lies there."""
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    """environment.json; {} if missing."""
    metrics: list[dict[str, Any]]
    """Lines of the pretraining's metrics.jsonl; a resume has taken back those after its checkpoint."""
    faults: list[dict[str, Any]]
    """Lines of the pretraining's faults.jsonl."""
    torn_lines: int
    """Lines of the two files above that a kill cut off in the middle; they are not in the lists."""
    evaluations: list[EvaluationFiles]
    """All but the reconstruction and the probes, by name of the folder."""
    probes: list[EvaluationFiles]
    """Evaluations of checkpoints that were kept, `NAME-pretrained@STEP`."""
    reconstruction: EvaluationFiles | None
    gallery: bytes | None
    """evaluations/reconstruction/gallery.npz."""
    done: Mapping[str, Any] | None
    """The pretraining's DONE.json, or else its FAILED.json."""
    is_exported: bool
    """Whether export/ holds weights, which is the last thing that a pretraining writes."""
    steps: Mapping[str, Any] | None
    """steps.json, which the driver writes; None of a run that was made before there was one."""
    checkpoints: list[str]
    """Folders of checkpoints/."""

    @property
    def steps_by_output(self) -> dict[str, dict[str, Any]]:
        """Entries of steps.json by the folder that each fills, with when they were `written`; {} without."""
        if self.steps is None:
            return {}
        written = {"written": self.steps["written"]}
        return {step["output"]: step | written for step in self.steps["steps"]}


def read_config(run_uri: str) -> tuple[str, Mapping[str, Any]]:
    """(config.yaml as it lies there, what it says); raises NotARunError without it, or if it is none."""
    config_uri = storage.join(run_uri, "config.yaml")
    try:
        config_text = storage.read_bytes(config_uri).decode(errors="replace")
    except FileNotFoundError:
        raise NotARunError(
            f"{run_uri}: not a run directory, config.yaml is missing; name the folder that a job printed, "
            "like runs/NAME-DIGEST"
        ) from None
    try:
        config = yaml.safe_load(config_text)
    except yaml.YAMLError as error:
        raise NotARunError(f"{config_uri}: is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise NotARunError(f"{config_uri}: holds no mapping of fields; it should be the config of a run")
    return config_text, config


def read_run(run_uri: str) -> RunFiles:
    """Read a run directory; raises NotARunError if there is no config.yaml, StorageError if unreachable."""
    config_text, config = read_config(run_uri)
    metrics, torn_metrics = _read_lines(storage.join(run_uri, "metrics.jsonl"))
    faults, torn_faults = _read_lines(storage.join(run_uri, "faults.jsonl"))
    evaluations_uri = storage.join(run_uri, "evaluations")
    evaluations = [
        _read_evaluation(evaluations_uri, folder)
        for folder in storage.list_dir(evaluations_uri)
        if not folder.startswith(".")
    ]
    probes = {files.folder for files in evaluations if PROBE_FOLDER.fullmatch(files.folder)}
    gallery_uri = storage.join(evaluations_uri, RECONSTRUCTION, "gallery.npz")
    return RunFiles(
        uri=run_uri,
        config_text=config_text,
        config=config,
        environment=read_mapping(storage.join(run_uri, "environment.json")) or {},
        metrics=metrics,
        faults=faults,
        torn_lines=torn_metrics + torn_faults,
        evaluations=[files for files in evaluations if files.folder not in {RECONSTRUCTION, *probes}],
        probes=[files for files in evaluations if files.folder in probes],
        reconstruction=next((files for files in evaluations if files.folder == RECONSTRUCTION), None),
        gallery=storage.read_bytes(gallery_uri) if storage.exists(gallery_uri) else None,
        done=read_record(run_uri),
        is_exported=storage.exists(storage.join(run_uri, "export", "model.safetensors")),
        steps=read_mapping(storage.join(run_uri, "steps.json")),
        checkpoints=storage.list_dir(storage.join(run_uri, "checkpoints")),
    )


def _read_evaluation(evaluations_uri: str, folder: str) -> EvaluationFiles:
    uri = storage.join(evaluations_uri, folder)
    done = result = problem = None
    try:
        done = read_record(uri)
        result = read_mapping(storage.join(uri, "result.json"))
    except storage.StorageError as error:
        problem = str(error)
    metrics, _ = _read_lines(storage.join(uri, "metrics.jsonl"))
    faults, _ = _read_lines(storage.join(uri, "faults.jsonl"))
    return EvaluationFiles(
        folder=folder,
        done=done,
        result=result,
        metrics=metrics,
        num_faults=len(faults),
        problem=problem,
    )


def read_record(step_uri: str) -> Mapping[str, Any] | None:
    """How a step ended: that it is done, or else why it failed the last time."""
    return read_mapping(storage.join(step_uri, "DONE.json")) or read_mapping(
        storage.join(step_uri, "FAILED.json")
    )


def read_mapping(uri: str) -> Mapping[str, Any] | None:
    """The JSON object in a file, None without the file; StorageError if it holds anything else."""
    try:
        found = storage.read_json(uri)
    except FileNotFoundError:
        return None
    if not isinstance(found, dict):
        raise storage.StorageError(f"{uri}: should hold a JSON object, holds {type(found).__name__}")
    return found


def _read_lines(uri: str) -> tuple[list[dict[str, Any]], int]:
    """(the lines that are JSON objects with a step, how many others there were); ([], 0) without the file."""
    try:
        text = storage.read_bytes(uri).decode(errors="replace")
    except FileNotFoundError:
        return [], 0
    lines, torn = [], 0
    # Not splitlines(): a reason may hold U+2028, which JSON leaves as it is.
    for line in filter(str.strip, text.split("\n")):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            lines.append(entry)
        else:
            torn += 1
    return lines, torn
