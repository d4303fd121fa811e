"""Which steps start now, which make room, how far they grow: decided from plain numbers, without a cluster.

    waiting steps, by priority -> does all of it fit beside what runs? -> start it, whole
                                  no: steps of lower priority wait too, and spare ones make room
    elastic steps -> what the others do not need of the cluster, one part each in turn

A step starts only when every part of its demand finds room at once, so that two steps that each want more
than half of a cluster run one after the other, and neither holds what the other waits for. Where the parts of
the running steps really lie is Ray's choice; here they are packed as tightly as they fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from mae_dist.orchestrate.step import SPARE, Step

Resources = Mapping[str, float]

ROUNDING = 1e-6
"""Shares of a CPU add up with errors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What a step holds, or would hold, of the cluster."""

    name: str
    parts: tuple[Resources, ...]
    """Each has to find room on one node."""
    growth: tuple[Resources, ...] = ()
    """Parts that it takes besides while it runs, one by one, wherever there is room."""
    priority: int = 0
    gives_way: bool = False
    """Whether it may be ended, and started again later, for a step of higher priority."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Names of steps."""

    start: tuple[str, ...]
    stop: tuple[str, ...]
    """Running steps that have to make room; what needs it starts when they are gone."""


def claim_of(step: Step) -> Claim:
    """The claim that a step makes by its demand and its priority."""
    return Claim(
        name=step.name,
        parts=step.demand.bundles,
        growth=step.demand.growth,
        priority=step.priority,
        gives_way=step.priority <= SPARE,
    )


def decide(
    waiting: Sequence[Claim], running: Sequence[Claim], nodes: Sequence[Resources], *, most: int
) -> Decision:
    """What to do with the steps that wait for nothing but room, given what each node carries.

    Among steps of one priority a smaller one may pass a larger one that does not fit yet; one of lower
    priority never does. At most `most` run side by side. Where nothing runs, the first one starts even if it
    fits nowhere: nodes may still come, and until then the user is told.
    """
    start: list[str] = []
    stop: list[str] = []
    held = list(running)
    kept_for: int | None = None
    for claim in sorted(waiting, key=lambda claim: -claim.priority):
        if kept_for is not None and claim.priority < kept_for:
            break
        if _fits(claim, held, nodes, most):
            held.append(claim)
            start.append(claim.name)
            continue
        kept_for = claim.priority
        stop = _in_the_way(claim, held, running, nodes, most)
        if stop:
            break
    if not held and waiting:
        start = [max(waiting, key=lambda claim: claim.priority).name]
    return Decision(tuple(start), tuple(stop))


def growth_limits(held: Sequence[Claim], nodes: Sequence[Resources]) -> dict[str, int]:
    """How many parts of its growth a step may take at most, so that the others find room, by its name.

    More important steps grow first, those of equal priority by one part each in turn. A step is kept small by
    the others, never by the size of the cluster, which may grow: one that nothing keeps small is left out.
    """
    elastic = [claim for claim in held if claim.growth]
    together = _grown(held, nodes) if elastic else {}
    alone = {claim.name: _grown([claim], nodes)[claim.name] for claim in elastic}
    return {name: together[name] for name, grown in alone.items() if together[name] < grown}


def _grown(held: Sequence[Claim], nodes: Sequence[Resources]) -> dict[str, int]:
    """How many parts of its growth each step would take."""
    free = [dict(node) for node in nodes]
    grown = dict.fromkeys((claim.name for claim in held), 0)
    if not _place([part for claim in held for part in claim.parts], free):
        return grown
    by_priority = sorted(held, key=_priority, reverse=True)
    for _, equals in groupby(by_priority, key=_priority):
        growing = [claim for claim in equals if claim.growth]
        while growing:
            growing = [claim for claim in growing if _place([claim.growth[grown[claim.name]]], free)]
            for claim in growing:
                grown[claim.name] += 1
            growing = [claim for claim in growing if grown[claim.name] < len(claim.growth)]
    return grown


def _priority(claim: Claim) -> int:
    return claim.priority


def _in_the_way(
    claim: Claim, held: Sequence[Claim], running: Sequence[Claim], nodes: Sequence[Resources], most: int
) -> list[str]:
    """Running steps without which the claim would fit, as few as that takes; [] if it would not anyway."""
    spare = [other for other in running if other.gives_way and other.priority < claim.priority]
    # Of the least important, those that have run for the shortest time lose the least.
    candidates = sorted(spare, key=lambda other: other.priority, reverse=True)[::-1]
    gone: list[Claim] = []
    while candidates and not _fits(claim, _without(held, gone), nodes, most):
        gone.append(candidates.pop(0))
    if not _fits(claim, _without(held, gone), nodes, most):
        return []
    for other in list(gone):
        fewer = [kept for kept in gone if kept is not other]
        if _fits(claim, _without(held, fewer), nodes, most):
            gone = fewer
    return [other.name for other in gone]


def _without(held: Sequence[Claim], gone: Sequence[Claim]) -> list[Claim]:
    names = {claim.name for claim in gone}
    return [claim for claim in held if claim.name not in names]


def _fits(claim: Claim, held: Sequence[Claim], nodes: Sequence[Resources], most: int) -> bool:
    """Whether every part of the claim finds room beside the steps that run."""
    if len(held) >= most:
        return False
    free = [dict(node) for node in nodes]
    if not _place([part for other in held for part in other.parts], free):
        return False  # one that waits for nodes itself takes what comes
    for other in held:
        # What a more important step may still grow into is no spare capacity.
        if other.priority > claim.priority:
            for part in other.growth:
                _place([part], free)
    return _place(claim.parts, free)


def _place(parts: Sequence[Resources], free: list[dict[str, float]]) -> bool:
    """Take the parts from the nodes, each from the one where it leaves least; False if one fits nowhere."""
    for part in sorted(parts, key=_size, reverse=True):
        wanted = {name: amount for name, amount in part.items() if amount}
        able = [
            node
            for node in free
            if all(node.get(name, 0.0) + ROUNDING >= amount for name, amount in wanted.items())
        ]
        if not able:
            return False
        node = min(able, key=_size)
        for name, amount in wanted.items():
            node[name] -= amount
    return True


def _size(resources: Resources) -> tuple[float, float, float]:
    """GPUs first: whatever needs none must not stand where they are."""
    gpus, cpus = resources.get("GPU", 0.0), resources.get("CPU", 0.0)
    return gpus, cpus, sum(resources.values()) - gpus - cpus
