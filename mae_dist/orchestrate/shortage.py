"""What to say while a step asks for more than the nodes of the cluster carry.

Ray itself says nothing: the step's tasks wait, because a node that carries it may still join.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mae_dist.orchestrate.step import Demand, Step

PATIENCE_SECONDS = 60.0
"""A cluster that scales by itself may bring the node within this time; nothing is said before."""
REPEAT_SECONDS = 300.0
WHOLE = ("CPU", "GPU")
"""What the nodes of a training are made of; everything else is a custom resource."""


class ShortageWatch:
    """Names resources that running steps go on waiting for, every few minutes."""

    def __init__(self) -> None:
        self._say_at: dict[str, float] = {}

    def look(self, steps: Sequence[Step], total: Mapping[str, float], now: float) -> list[str]:
        """Warnings that are due at `now` (seconds), for these running steps on a cluster of `total`."""
        lacking: dict[str, list[str]] = {}
        for step in steps:
            for name, amount in _demanded(step.demand).items():
                if total.get(name, 0.0) < amount:
                    lacking.setdefault(name, []).append(step.name)
        self._say_at = {name: self._say_at.get(name, now + PATIENCE_SECONDS) for name in lacking}
        due = [name for name, at in self._say_at.items() if now >= at]
        self._say_at |= dict.fromkeys(due, now + REPEAT_SECONDS)
        return [f"{', '.join(lacking[name])} cannot go on: {self._why(name, steps, total)}" for name in due]

    @staticmethod
    def _why(name: str, steps: Sequence[Step], total: Mapping[str, float]) -> str:
        if name not in WHOLE:
            return no_node_carries(name, total)
        needed = max(_demanded(step.demand).get(name, 0.0) for step in steps)
        return (
            f"{needed:g} {name} are needed at least, and the cluster has {total.get(name, 0.0):g}. Training "
            "goes on by itself when nodes come; fewer resources.workers (of a range the least) need fewer"
        )


def total_of(nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What all nodes carry together."""
    total: dict[str, float] = {}
    for node in nodes:
        for name, amount in node.items():
            total[name] = total.get(name, 0.0) + amount
    return total


def _demanded(demand: Demand) -> dict[str, float]:
    return {"CPU": demand.cpus, "GPU": demand.gpus} | dict(demand.custom)


def no_node_carries(resource: str, total: Mapping[str, float]) -> str:
    """That no node carries a custom resource, what there is instead, and what would help."""
    held = ", ".join(f"{amount:g} {name}" for name, amount in sorted(total.items()))
    return (
        f"no node of the cluster carries the resource {resource!r}, which decoding waits for; it has {held}. "
        f"Add such a node (ray start --resources='{{\"{resource}\": 8}}' ...), correct data.decode_resource, "
        "or set it to null to decode on every node"
    )
