"""The steps of a run as its directory tells them to whoever can read it; nothing is started for that.

    steps.json, which the driver keeps            every step with attempt, resources and log
    DONE.json, FAILED.json, progress.json, ...    the same as far as they go, of versions without steps.json

Whether that driver still lives is another question, which `orchestrate/pulse.py` answers.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mae_dist import storage
from mae_dist.config.targets import MADE, PIXELS
from mae_dist.report import wording
from mae_dist.report.evaluations import STARTS
from mae_dist.report.run_files import RECONSTRUCTION, read_config, read_mapping, read_record

SCHEMA = 1
"""Of steps.json."""
FINISHED = frozenset({"done", "kept", "failed", "skipped", "cancelled"})
"""States that a step does not leave while its driver works; the others are waiting, running and retrying."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepState:
    """Where one step stands."""

    name: str
    state: str
    """waiting, running, retrying (waits to be tried again), done, kept (done by an earlier job), failed,
    skipped (a step that it needs failed), cancelled; interrupted: begun by a driver that is gone."""
    output: str
    """Folder of its results below the run directory; "" is the run directory itself."""
    reason: str | None = None
    attempt: int = 1
    seconds: float = 0.0
    cpus: float = 0.0
    gpus: float = 0.0
    log: str | None = None
    """File below the run directory; None before it has one."""
    progress: Mapping[str, Any] | None = None
    """Last line of its progress.json."""
    headline: str = ""
    """What came out, or the loss so far, for people; "" if there is no such number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSteps:
    """All steps of a run at one moment."""

    uri: str
    name: str
    """The run's."""
    steps: tuple[StepState, ...]
    is_recorded: bool
    """Whether a driver wrote them down; else they are told from the files that steps leave."""
    driver: int | None = None
    """Number of the driver that wrote them, ..."""
    written: float | None = None
    """... and when, by its clock in seconds since 1970."""

    @property
    def is_over(self) -> bool:
        """Whether no step is left that its driver would still begin or end."""
        return all(step.state in FINISHED for step in self.steps)

    @property
    def is_complete(self) -> bool:
        """Whether every step is done."""
        return all(step.state in ("done", "kept") for step in self.steps)

    def step(self, name: str) -> StepState | None:
        """The step of this name, None if there is none."""
        return next((step for step in self.steps if step.name == name), None)

    def no_such_step(self, name: str) -> str:
        """What to tell whoever asks for a step that there is not."""
        known = [step.name for step in self.steps]
        close = difflib.get_close_matches(name, known, n=1)
        guess = f"; did you mean {close[0]!r}?" if close else "."
        return f"{self.uri}: has no step {name!r}{guess} Its steps: {', '.join(known)}"

    def abandoned(self) -> RunSteps:
        """The same when nobody drives the run: what was being done is interrupted."""
        steps = (
            replace(step, state="interrupted") if step.state in ("running", "retrying") else step
            for step in self.steps
        )
        return replace(self, steps=tuple(steps))


class StepReader:
    """Reads the steps of one run, as often as asked; what a step came to is read once."""

    def __init__(self, run_uri: str) -> None:
        """Raises NotARunError if `run_uri` is no run directory."""
        self.uri = run_uri
        self._config = read_config(run_uri)[1]
        self._records: dict[tuple[str, int], Mapping[str, Any] | None] = {}

    def read(self) -> RunSteps:
        """The steps now; StorageError if steps.json cannot be understood."""
        written = read_mapping(storage.join(self.uri, "steps.json"))
        if written is None:
            steps = [self._told_by_files(name, output) for name, output in self._declared()]
        elif written.get("schema") != SCHEMA:
            where = storage.join(self.uri, "steps.json")
            raise storage.StorageError(
                f"{where}: has schema {written.get('schema')}, this version of mae_dist reads {SCHEMA}; "
                "use the version that drives the run"
            )
        else:
            steps = [self._recorded(entry) for entry in written["steps"]]
        return RunSteps(
            uri=self.uri,
            name=str(self._config.get("name", "")),
            steps=tuple(steps),
            is_recorded=written is not None,
            driver=(written or {}).get("driver"),
            written=(written or {}).get("written"),
        )

    def _recorded(self, entry: Mapping[str, Any]) -> StepState:
        attempt, progress = entry.get("attempt") or 1, entry.get("progress")
        known = entry.get("key", entry["name"]), attempt
        record: Mapping[str, Any] = {}
        if entry["state"] in ("done", "kept"):
            if known not in self._records:
                self._records[known] = read_record(storage.join(self.uri, entry["output"]))
            record = self._records[known] or {}
        return StepState(
            name=entry["name"],
            state=entry["state"],
            output=entry["output"],
            reason=entry.get("reason"),
            attempt=attempt,
            # Of a step that an earlier job did, this one knows no time.
            seconds=entry.get("seconds") or record.get("seconds") or 0.0,
            cpus=entry.get("cpus") or 0.0,
            gpus=entry.get("gpus") or 0.0,
            log=entry.get("log"),
            progress=progress,
            headline=headline(record.get("summary") or {}, progress),
        )

    def _declared(self) -> Iterator[tuple[str, str]]:
        """(name, output) of the steps that the config asks for or that have left a folder."""
        has_test = bool((self._config.get("data") or {}).get("test_catalog"))
        target = self._config.get("target") or {}
        yield "catalog", "catalog/train"
        if target.get("kind") in MADE:
            yield "target", "target"
        yield "pretrain", ""
        if has_test:
            yield "test_catalog", "catalog/test"
        if has_test and target.get("kind", PIXELS[0]) in PIXELS and target.get("frames", "same") == "same":
            yield RECONSTRUCTION, f"evaluations/{RECONSTRUCTION}"
        for folder in storage.list_dir(storage.join(self.uri, "features")):
            start, _, digest = folder.partition("-")
            yield f"features-{digest}-{start}", f"features/{folder}"
        evaluations = self._config.get("evaluations") or {} if has_test else {}
        for name, declared in evaluations.items():
            for start in (declared or {}).get("start_from", STARTS):
                yield f"{name}-{start}", f"evaluations/{name}-{start}"
        yield "report", "report"

    def _told_by_files(self, name: str, output: str) -> StepState:
        uri = storage.join(self.uri, output)
        files = set(storage.list_dir(uri))
        record = (read_record(uri) if files & {"DONE.json", "FAILED.json"} else None) or {}
        progress = read_mapping(storage.join(uri, "progress.json")) if "progress.json" in files else None
        # The run directory itself is there before its pretraining begins.
        is_begun = bool(files & {"BEGUN.json", "progress.json", "checkpoints"})
        return StepState(
            name=name,
            state=record.get("state") or ("running" if is_begun else "waiting"),
            output=output,
            reason=record.get("reason"),
            seconds=record.get("seconds") or 0.0,
            progress=progress,
            headline=headline(record.get("summary") or {}, progress),
        )


def headline(summary: Mapping[str, Any], progress: Mapping[str, Any] | None) -> str:
    """The number that a reader wants of a step, of its result or of its progress; "" if there is none."""
    if wording.is_number(summary.get("value")):
        error = summary.get("standard_error")
        spread = f" ± {wording.decimal(error)}" if wording.is_number(error) else ""
        return f"{wording.label(summary.get('metric', 'top1'))} {wording.decimal(summary['value'])}{spread} %"
    if wording.is_number(summary.get("model_mse")):
        return f"error {wording.significant(summary['model_mse'])}"
    if wording.is_number(summary.get("num_samples")):
        return f"{wording.count(summary['num_samples'])} samples"
    if progress is None:
        return ""
    if progress.get("text") and progress["step"] < progress["total_steps"]:
        return str(progress["text"])  # of a step that trains nothing on the stream
    if wording.is_number(progress.get("loss")):
        return f"loss {wording.significant(progress['loss'], 4)}"
    return ""


def step_counts(steps: Sequence[StepState]) -> dict[str, int]:
    """How many steps are in each state, in the order of their first appearance."""
    counts: dict[str, int] = {}
    for step in steps:
        counts[step.state] = counts.get(step.state, 0) + 1
    return counts
