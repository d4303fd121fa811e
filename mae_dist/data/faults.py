"""Samples that cannot be decoded: what stands in for them, how they are recorded, how many are too many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mae_dist.config.resilience import FaultBudget
from mae_dist.data import keys

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Fault:
    """One sample that could not be read, and the sample whose pixels and label were taken instead."""

    sample: int
    uri: str
    reason: str
    replaced_by: int


class FaultBudgetError(RuntimeError):
    """More samples are unreadable than the run allows."""


def replacement(seed: int, epoch: int, sample: int, attempt: int, among: range) -> int:
    """The sample to try instead of an unreadable one: another one of `among`, and the same every time."""
    if len(among) == 1:
        return sample
    drawn = among.start + int(
        keys.rng(seed, epoch, sample, f"replacement {attempt}").integers(len(among) - 1)
    )
    return drawn + (drawn >= sample)


def check_budget(budget: FaultBudget, *, num_faults: int, num_seen: int, latest: Sequence[Fault]) -> None:
    """Raise FaultBudgetError if more than max(at_least, share * num_seen) samples were unreadable."""
    allowed = max(budget.at_least, int(budget.share * num_seen))
    if num_faults <= allowed:
        return
    shown = latest[-_SHOWN:]
    raise FaultBudgetError(
        f"{num_faults} of {num_seen} samples could not be read; data.fault_budget allows {allowed} "
        f"(share {budget.share:g}, at least {budget.at_least}). The last {len(shown)}:\n"
        + "\n".join(f"  {fault.uri}: {fault.reason}" for fault in shown)
    )
