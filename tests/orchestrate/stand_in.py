"""A cluster without Ray and with a clock of its own, on which steps do what their config says.

A step's config is a list of plays, (seconds, what comes of it): one per attempt, the last one for all others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mae_dist.orchestrate.attempt import Failure
from mae_dist.orchestrate.runner import run_steps
from mae_dist.orchestrate.state import StepStatus
from mae_dist.orchestrate.step import Demand, Patience, Step
from mae_dist.orchestrate.store import RunStore

Play = tuple[float, Mapping[str, Any] | Failure]

DONE: Play = (1.0, {})
HANG: Play = (math.inf, {})
LOST: Play = (1.0, Failure("its process died: killed", "no traceback"))
WRONG: Play = (1.0, Failure("ValueError: of the user", "Traceback ...", is_permanent=True))


def unlucky(reason: str = "RuntimeError: not today") -> Play:
    return 1.0, Failure(reason, "Traceback (most recent call last): ...")


def step(
    name: str,
    *plays: Play,
    cpus: float = 1.0,
    most_cpus: float | None = None,
    patience: Patience | None = None,
    **options,
) -> Step:
    """A step that does so in its attempts; with `most_cpus` it may grow, one by one."""
    growth = ({"CPU": 1.0},) * int((most_cpus or cpus) - cpus)
    return Step(
        name=name,
        run=lambda *_: {},
        config=plays or (DONE,),
        identity=name,
        output=f"steps/{name}",
        demand=Demand(cpus=cpus, growth=growth),
        patience=patience or Patience(retries=2, backoff_seconds=10.0),
        **options,
    )


class StandIn:
    """A launcher of steps that take their time by a clock of its own."""

    def __init__(self, *, cpus: float = 4.0) -> None:
        self.now = 0.0
        self.log: list[tuple[float, str, str]] = []
        """(time, name of the step or folder, what happened)."""
        self._nodes = [{"CPU": cpus}]
        self._attempts: dict[str, int] = {}

    def clock(self) -> float:
        return self.now

    def nodes(self) -> Sequence[Mapping[str, float]]:
        return self._nodes

    def start(self, step: Step, output: str, inputs: Mapping[str, str], *, log_file: str) -> PlayedAttempt:
        number = self._attempts[step.name] = self._attempts.get(step.name, 0) + 1
        self.note(step.name, "starts")
        plays = step.config
        return PlayedAttempt(self, step.name, plays[min(number, len(plays)) - 1])

    def wait(self, attempts: Sequence[Any], seconds: float) -> list[Any]:
        ends = [attempt.ends for attempt in attempts]
        self.now = min([self.now + seconds, *(max(self.now, end) for end in ends)])
        return [attempt for attempt in attempts if attempt.ends <= self.now]

    def ask_to_stop(self, output: str | None) -> None:
        self.note(output or "all", "is asked to stop")

    def limit_growth(self, output: str, most: int | None) -> None:
        self.note(output, f"may grow by {most}")

    def note(self, name: str, what: str) -> None:
        self.log.append((self.now, name, what))

    def times(self, name: str, what: str = "starts") -> list[float]:
        """When it happened."""
        return [at for at, its, happened in self.log if (its, happened) == (name, what)]


class PlayedAttempt:
    """One attempt of the stand-in."""

    def __init__(self, launcher: StandIn, name: str, play: Play) -> None:
        self._launcher, self._name = launcher, name
        self.ends, self._outcome = launcher.now + play[0], play[1]

    def has_begun(self) -> bool:
        return True

    def outcome(self) -> Mapping[str, Any] | Failure:
        return self._outcome

    def write_stacks(self) -> None:
        self._launcher.note(self._name, "writes its stacks")

    def kill(self, *, hard: bool = False) -> None:
        self._launcher.note(self._name, "is killed")
        self.ends, self._outcome = self._launcher.now, Failure("its process died: killed", "none")


def run(
    folder: Path, launcher: StandIn, *steps: Step, show=lambda statuses: None, find=lambda: ()
) -> dict[str, StepStatus]:
    """How each step ended, by name."""
    store = RunStore(str(folder))
    ended = run_steps(steps, store, show=show, find=find, launcher=launcher, clock=launcher.clock)
    return {status.step.name: status for status in ended}
