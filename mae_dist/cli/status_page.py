"""How a run's steps and its driver look in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mae_dist import storage
from mae_dist.orchestrate.pulse import Driver
from mae_dist.report import wording
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
_BAR_COLUMNS = 12


def status_page(run: RunSteps, driver: Driver, *, is_terminal: bool) -> Group:
    """Who drives the run, a table of its steps, and why those failed that did; with bars on a terminal.

    All text from outside goes through rich's Text, so that brackets in it are no markup.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("step", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("try", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    if is_terminal:
        table.add_column("", width=_BAR_COLUMNS)
    for heading in ("progress", "ETA", "result"):
        table.add_column(heading, no_wrap=True)
    table.add_column("log", overflow="fold")
    for step in run.steps:
        table.add_row(*_cells(step, is_terminal=is_terminal))
    return Group(
        *_heading(run, driver),
        Text(""),
        table,
        *(Text(f"{step.name} {step.state}: {step.reason}") for step in run.steps if step.reason),
        *_advice(run),
    )


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
    who = f"process {driver.pid} on {driver.host} ({driver.command})"
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
    return f"driver {driver.number} is gone without a word: {who}; {again}"


def _advice(run: RunSteps) -> Iterator[Text]:
    failed = next((step for step in run.steps if step.state == "failed"), None)
    if failed is not None:
        yield Text(f"why: mae-dist logs {run.uri} {failed.name}", style="dim")
    if run.is_complete:
        yield Text(f"report: {storage.join(run.uri, 'report', 'index.html')}", style="dim")


def _cells(step: StepState, *, is_terminal: bool) -> list[Text | ProgressBar]:
    bar: Text | ProgressBar = Text("")
    if step.state == "running" and step.progress is not None:
        total, done = step.progress["total_steps"], step.progress["step"]
        bar = ProgressBar(total=total, completed=done, width=_BAR_COLUMNS)
    is_running = step.state == "running" and step.progress is not None
    left = step.progress.get("eta_seconds") if is_running and step.progress else None
    return [
        Text(step.name),
        Text(step.state, style=COLOURS.get(step.state, "")),
        Text(str(step.attempt)),
        Text(wording.duration(round(step.seconds)) if step.seconds else ""),
        *([bar] if is_terminal else []),
        Text(_progress(step)),
        Text(wording.duration(round(left)) if wording.is_number(left) else ""),
        Text(step.headline),
        Text(step.log or ""),
    ]


def _progress(step: StepState) -> str:
    """How far a step is that has not finished, "" where it does not say."""
    if step.progress is None or step.state in ("done", "kept"):
        return ""
    return f"{step.progress['step']}/{step.progress['total_steps']}"
