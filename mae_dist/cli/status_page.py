"""How a run's steps and its driver look in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mae_dist import storage
from mae_dist.orchestrate.pulse import Driver
from mae_dist.report import wording
from mae_dist.report.columns import fitted_table
from mae_dist.report.run_steps import RunSteps, StepState, step_counts

COLOURS = {
    "waiting": "dim",
    "running": "bold cyan",
    "retrying": "bold yellow",
    "done": "green",
    "kept": "green",
    "failed": "bold red",
    "skipped": "yellow",
    "cancelled": "yellow",
    "interrupted": "bold yellow",
}
_BAR, _BAR_COLUMNS = "", 12
_NUMBERS = {"try", "time", "ETA"}
"""Headings above what lines up on the right."""


def status_page(run: RunSteps, driver: Driver, console: Console) -> Group:
    """Who drives the run, a table of its steps as wide as the console, and why those failed that did.

    All text from outside goes through rich's Text, so that brackets in it are no markup.
    """
    return Group(
        *_heading(run, driver),
        Text(""),
        _table(run.steps, console),
        *(Text(f"{step.name} {step.state}: {step.reason}") for step in run.steps if step.reason),
        *_advice(run),
    )


def _table(steps: Sequence[StepState], console: Console) -> Table:
    rows = [_cells(step) for step in steps]
    if not console.is_terminal:
        rows = [row | {_BAR: ""} for row in rows]
    return fitted_table(rows, console, first_to_go=("log", _BAR, "time", "try"), on_the_right=_NUMBERS)


def state_line(step: StepState) -> str:
    """A step in one line, where there is no terminal to draw a table on."""
    took = f" after {wording.duration(step.seconds)}" if step.state in ("done", "failed") else ""
    details = [f"try {step.attempt}" if step.attempt > 1 else "", _progress(step), step.headline]
    details.append(step.reason or "")
    return f"{step.name:<28} {step.state}{took}  {'  '.join(filter(None, details))}".rstrip()


def _heading(run: RunSteps, driver: Driver) -> Iterator[Text]:
    counts = ", ".join(f"{count} {state}" for state, count in step_counts(run.steps).items())
    yield Text.assemble((run.name, "bold"), f"  {run.uri}")
    yield Text(f"{wording.plural(len(run.steps), 'step')}: {counts}")
    style = "" if driver.life in ("alive", "listening") or run.is_complete else "yellow"
    yield Text(driver_line(run, driver), style=style)
    if not run.is_recorded:
        yield Text("told from the files that steps leave; there is no steps.json", style="dim")


def driver_line(run: RunSteps, driver: Driver) -> str:
    """Whether somebody works on the run, and what to do if not."""
    process = f"process {driver.pid} on {driver.host}"
    who = f"{process} ({driver.command})"
    again = f"the same command does what is missing: {driver.command}"
    if driver.life == "none":
        return "no driver is known of this run"
    if driver.life == "listening":
        return f"driver {driver.number}: {who}; whether it lives is not known yet"
    if driver.life == "alive":
        return f"driver {driver.number} works on it: {who}"
    if run.is_complete:
        return f"driver {driver.number} has ended; nothing is left to do"
    if driver.life == "ended":
        return f"driver {driver.number} has ended; {again}"
    return f"driver {driver.number} is gone without a word ({process}); {again}"


def _advice(run: RunSteps) -> Iterator[Text]:
    failed = next((step for step in run.steps if step.state == "failed"), None)
    if failed is not None:
        yield Text(f"why: mae-dist logs {run.uri} {failed.name}", style="dim")
    running = next((step for step in run.steps if step.state == "running" and step.log), None)
    if running is not None:
        yield Text(f"log: mae-dist logs {run.uri} {running.name} --follow", style="dim")
    if run.is_complete:
        yield Text(f"report: {storage.join(run.uri, 'report', 'index.html')}", style="dim")


def _cells(step: StepState) -> dict[str, RenderableType]:
    """What stands in the row of a step, by heading."""
    left = (step.progress or {}).get("eta_seconds") if step.state == "running" else None
    return {
        "step": Text(step.name),
        "state": Text(step.state, style=COLOURS.get(step.state, "")),
        "try": Text(str(step.attempt)),
        "time": Text(wording.duration(round(step.seconds)) if step.seconds else ""),
        "progress": Text(_progress(step)),
        _BAR: _bar(step) or Text(""),
        "ETA": Text(wording.duration(round(left)) if wording.is_number(left) else ""),
        "result": Text(step.headline),
        "log": Text(step.log or ""),
    }


def _bar(step: StepState) -> ProgressBar | None:
    """How far a running step is, drawn; None of others."""
    if step.state != "running" or step.progress is None:
        return None
    total, done = step.progress["total_steps"], step.progress["step"]
    return ProgressBar(total=total, completed=done, width=_BAR_COLUMNS)


def _progress(step: StepState) -> str:
    """How far a step is that has not finished, "" where it does not say."""
    if step.progress is None or step.state in ("done", "kept"):
        return ""
    return f"{step.progress['step']}/{step.progress['total_steps']}"
