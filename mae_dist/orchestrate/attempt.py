"""An attempt at a step, as the runner sees it: something that is started, waited for and can be ended.

`process.py` makes attempts on a Ray cluster; tests make their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mae_dist.orchestrate.step import Step


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt has no result."""

    reason: str
    """In one line."""
    traceback: str
    is_permanent: bool = False
    """Whether another attempt would only fail in the same way."""


class Attempt(Protocol):
    """One execution of a step, in a process that does nothing else meanwhile."""

    def has_begun(self) -> bool:
        """Whether its process is there."""
        ...

    def outcome(self) -> Mapping[str, Any] | Failure:
        """The step's summary, or why there is none; once `Launcher.wait` has returned the attempt."""
        ...

    def write_stacks(self) -> None:
        """Ask the process to write where its threads are into the step's log; returns at once."""
        ...

    def kill(self, *, hard: bool = False) -> None:
        """End the process, and what it has started on the cluster; `hard`: even if it does not listen."""
        ...


class Launcher(Protocol):
    """Where attempts run."""

    def nodes(self) -> Sequence[Mapping[str, float]]:
        """What each node carries that a step may ask for, held or not."""
        ...

    def start(self, step: Step, output: str, inputs: Mapping[str, str], *, log_file: str) -> Attempt:
        """Start a step, whose process appends what it prints to the local `log_file`."""
        ...

    def wait(self, attempts: Sequence[Attempt], seconds: float) -> Sequence[Attempt]:
        """Those that have ended, as soon as one has, or none after so long."""
        ...

    def ask_to_stop(self, output: str | None) -> None:
        """Ask the trainings in the folder `output`, or all, to save and stop."""
        ...

    def limit_growth(self, output: str, most: int | None) -> None:
        """Let the training in the folder `output` grow by so many parts at most, or (None) freely."""
        ...
