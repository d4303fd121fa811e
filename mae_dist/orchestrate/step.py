"""A step of a job as plain data: what to run, on what, after what, how patiently."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mae_dist.config.load import digest

PRETRAINING, EVALUATION, SPARE = 20, 10, 0
"""Priorities. A step of SPARE runs on what no other could use, and makes room as soon as one could."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What a step holds of the cluster while it runs."""

    cpus: float = 1.0
    gpus: float = 0.0
    custom: Mapping[str, float] = field(default_factory=dict)
    """Other resources of Ray that a task of it asks for; without a node that has so much it waits."""
    parts: tuple[Mapping[str, float], ...] = ()
    """The same in parts that each have to find room on one node ("CPU", "GPU", custom resources); () means
    that all of it has to."""
    growth: tuple[Mapping[str, float], ...] = ()
    """Parts that it takes besides, one by one, wherever there is room."""

    @property
    def bundles(self) -> tuple[Mapping[str, float], ...]:
        """The parts, or the one that is all of it."""
        whole = {"CPU": self.cpus, "GPU": self.gpus} | dict(self.custom)
        return self.parts or ({name: amount for name, amount in whole.items() if amount},)


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long an attempt of a step may take, and what follows one that fails."""

    timeout_seconds: float | None = None
    """After so long an attempt is ended and has failed; None: it may take any time."""
    retries: int = 0
    """Attempts after the first one, unless the error would only come again (see failure.py)."""
    backoff_seconds: float = 10.0
    """Pause before the first of them; each later one is twice as long."""

    def pause(self, attempt: int) -> float:
        """Seconds between the end of attempt 1, 2, ... and the next one: backoff * 2 ** (attempt - 1)."""
        return self.backoff_seconds * 2 ** (attempt - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Says what to run; order, side-by-side running and status belong to the runner."""

    name: str
    run: Callable[[Any, str, Mapping[str, str]], Mapping[str, Any]]
    """Called with (config, output_uri, inputs); inputs maps the name of each needed step to its output.
    What it returns is kept as the step's summary."""
    config: Any
    """Passed to `run`."""
    identity: Any
    """What the result depends on, as plain data; two steps of equal key have equal results."""
    output: str
    """Folder of its results, relative to the run directory; "" is the run directory itself."""
    needs: tuple[Step, ...] = ()
    """Must be done before; their keys are part of this step's key."""
    after: tuple[Step, ...] = ()
    """Must have ended before, done or failed; the result does not depend on them."""
    demand: Demand = field(default_factory=Demand)
    priority: int = EVALUATION
    """Of several steps that could start, those of the highest priority do; see admission.py."""
    patience: Patience = field(default_factory=Patience)
    saves: bool = False
    """Saves and stops when it is asked to (a training); others are ended where they are."""
    always: bool = False
    """Comes after all others, and is run again even if it was done (a report)."""

    @property
    def log(self) -> str:
        """What it prints, as a file relative to the run directory."""
        return f"{self.output}/log.txt".lstrip("/")

    @property
    def key(self) -> str:
        """Name and a digest of the identity and of the keys it needs. Code is not part of it: adding a log
        line must not repeat a month of training."""
        return f"{self.name}-{digest([self.identity, [step.key for step in self.needs]])}"
