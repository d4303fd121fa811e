"""Where the steps of a job stand: in the driver, and in RUN/steps.json for everybody else.

    {"schema": 1, "driver": its number, "written": UNIX seconds, "ended": whether the driver is done,
     "steps": [{"name", "key", "state", "reason", "attempt", "priority", "needs", "started", "ended",
                "seconds", "cpus", "gpus", "output", "log", "progress"}],
     "history": [{"name", "attempt", "started", "ended", "state", "reason", "cpus", "gpus"}]}

`started` and `ended` are UNIX seconds of the attempt at hand or of the last one, null if there was none;
`output` and `log` are relative to the run directory; `progress` is what the step's progress.json holds. The
history has every attempt that ended, of this driver and those before it, oldest first. The file only tells:
what is done is decided by DONE.json alone. Whether the driver lives is in drivers/ (see store.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mae_dist import storage
from mae_dist.orchestrate.step import SPARE, Step
from mae_dist.orchestrate.store import RunStore

FILE = "steps.json"
SCHEMA = 1
WRITE_SECONDS = 2.0
"""At least so long between two writes for the sake of progress alone."""
HISTORY_ENTRIES = 1000
"""The newest ones are kept."""

State = Literal["waiting", "running", "retrying", "done", "kept", "failed", "skipped", "cancelled"]
ENDED: frozenset[State] = frozenset({"done", "kept", "failed", "skipped", "cancelled"})
WITHOUT_RESULT: frozenset[State] = frozenset({"failed", "skipped", "cancelled"})


@dataclass(slots=True)
class StepStatus:
    """Where a step stands; what the display shows."""

    step: Step
    state: State = "waiting"
    """waiting, running, retrying (failed, and waits for its next attempt), done, kept (done in an earlier
    job), failed, skipped (a needed step failed) or cancelled."""
    reason: str | None = None
    started: float | None = None
    """UNIX seconds, of the attempt at hand or the last one."""
    ended: float | None = None
    seconds: float = 0.0
    """How long that attempt has taken so far, or took."""
    progress: dict[str, Any] | None = None
    """The last line of metrics of a training step."""
    attempt: int = 0
    """1 for the first one; 0 before it."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it in this job."""
        return self.state in ENDED


def longest_data_wait(statuses: Iterable[StepStatus], *, untold: float) -> float:
    """The largest share of its time that a training waits for data, of those that run on more than is spare.

    `untold` stands for that of a training which has not told any yet.
    """
    trainings = [its for its in statuses if its.step.saves and its.step.priority > SPARE]
    told = [its.progress or {} for its in trainings if its.state == "running"]
    return max((progress.get("data_wait_share", untold) for progress in told), default=0.0)


class StateFile:
    """RUN/steps.json, replaced whole whenever a state changes and now and then for the progress."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._uri = storage.join(store.uri, FILE)
        before = self._read()
        self._history: list[dict[str, Any]] = list(before.get("history", ()))
        self._known = {step["key"]: step for step in before.get("steps", ())}
        self._told: Any = None
        self._shown: Any = None
        self._written = float("-inf")

    def recall(self, status: StepStatus) -> None:
        """Say of a step that was kept when an earlier driver did it."""
        known = self._known.get(status.step.key, {})
        status.started, status.ended = known.get("started"), known.get("ended")
        status.seconds, status.attempt = known.get("seconds") or 0.0, known.get("attempt") or 0

    def remember(self, status: StepStatus, state: str, reason: str | None) -> None:
        """Add the attempt that has just ended, in `state`, to the history."""
        demand = status.step.demand
        entry = {"name": status.step.name, "attempt": status.attempt}
        entry |= {"started": status.started, "ended": status.ended, "state": state, "reason": reason}
        self._history.append(entry | {"cpus": demand.cpus, "gpus": demand.gpus})
        del self._history[:-HISTORY_ENTRIES]

    def write(self, statuses: Sequence[StepStatus], *, ended: bool = False) -> None:
        """Replace the file if there is something new to tell. FencedOffError: a later driver tells it now."""
        states = [(status.step.name, status.state, status.reason, status.attempt) for status in statuses]
        told = (states, len(self._history), ended)
        shown = [status.progress for status in statuses]
        is_due = shown != self._shown and time.monotonic() >= self._written + WRITE_SECONDS
        if told == self._told and not is_due:
            return
        self._told, self._shown, self._written = told, shown, time.monotonic()
        self._store.check()
        content = {
            "schema": SCHEMA,
            "driver": self._store.driver,
            "written": time.time(),
            "ended": ended,
            "steps": [_entry(status) for status in statuses],
            "history": self._history,
        }
        storage.write_json(self._uri, content)

    def _read(self) -> dict[str, Any]:
        if not storage.exists(self._uri):
            return {}
        content = storage.read_json(self._uri)
        return content if content.get("schema") == SCHEMA else {}


def _entry(status: StepStatus) -> dict[str, Any]:
    step = status.step
    return {
        "name": step.name,
        "key": step.key,
        "state": status.state,
        "reason": status.reason,
        "attempt": max(1, status.attempt),
        "priority": step.priority,
        "needs": [other.name for other in step.needs],
        "started": status.started,
        "ended": status.ended,
        "seconds": round(status.seconds, 3),
        "cpus": step.demand.cpus,
        "gpus": step.demand.gpus,
        "output": step.output,
        "log": step.log if status.attempt else None,
        "progress": status.progress,
    }
