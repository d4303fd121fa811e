"""A step of a job as plain data: what to run, on what, after what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mae_dist.config.load import digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What a step holds of the cluster while it runs."""

    cpus: float = 1.0
    gpus: float = 0.0
    custom: Mapping[str, float] = field(default_factory=dict)
    """Other resources of Ray that a task of it asks for; without a node that has so much it waits."""


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
    always: bool = False
    """Run again even if it was done (a report)."""

    @property
    def key(self) -> str:
        """Name and a digest of the identity and of the keys it needs. Code is not part of it: adding a log
        line must not repeat a month of training."""
        return f"{self.name}-{digest([self.identity, [step.key for step in self.needs]])}"
