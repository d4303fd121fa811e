"""How a job's steps look in the terminal: a live table where there is one, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mae_dist.cli.status_page import COLOURS
from mae_dist.orchestrate.state import StepStatus
from mae_dist.train.metrics import describe


class StepDisplay:
    """Shows step states while a job runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._said: dict[str, str] = {}

    def __enter__(self) -> StepDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, statuses: Sequence[StepStatus]) -> None:
        """Draw the table, or print what changed since the last call."""
        if self._live is not None:
            self._live.update(steps_table(statuses))
            return
        for status in statuses:
            line = _line(status)
            if self._said.get(status.step.name) != line:
                self._said[status.step.name] = line
                # A reason may hold brackets, which are no markup.
                said = f"{status.step.name:<28} {line}"
                self._console.print(said, highlight=False, markup=False, soft_wrap=True)


def steps_table(statuses: Sequence[StepStatus]) -> Table:
    """One row per step: name, state, progress, what it says."""
    table = Table(box=None, padding=(0, 1))
    for heading in ("step", "state", "time", "progress", ""):
        table.add_column(heading)
    for status in statuses:
        bar = ""
        if status.progress is not None and status.state == "running":
            bar = ProgressBar(
                total=status.progress["total_steps"], completed=status.progress["step"], width=24
            )
        table.add_row(
            status.step.name,
            Text(status.state, style=COLOURS[status.state]),
            f"{status.seconds:.0f} s" if status.seconds else "",
            bar,
            Text(_detail(status), overflow="fold"),
        )
    return table


def _line(status: StepStatus) -> str:
    is_over = status.state in ("done", "failed", "retrying", "cancelled") and status.seconds
    took = f" after {status.seconds:.0f} s" if is_over else ""
    detail = _detail(status)
    return f"{status.state}{took}" + (f"  {detail}" if detail else "")


def _detail(status: StepStatus) -> str:
    if status.reason is not None:
        return status.reason
    if status.state == "running" and status.progress is not None:
        # A step that trains nothing on the stream says itself how far it is.
        return status.progress.get("text") or describe(status.progress, status.progress["total_steps"])
    return ""
