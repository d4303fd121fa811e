"""What a loss is multiplied by before its gradient is taken, so that small gradients survive in float16."""

from __future__ import annotations

from collections.abc import Mapping

FIRST_SCALE = 2.0**16
GROWTH_INTERVAL = 2000
"""Finite updates in a row after which twice the scale is tried."""


class LossScale:
    """A power of two, halved when a gradient overflowed and doubled after a long time without.

    Dividing a gradient by a power of two loses nothing, so the scale is not seen in the result. It depends on
    the sequence of finite and other updates alone, which all ranks agree on, and so needs no exchange. An
    update that was skipped for a gradient too large, but finite, is no reason to change it.
    Not `dynamic` (float32 and bfloat16, whose exponents are long enough) it stays 1.
    """

    def __init__(self, *, dynamic: bool) -> None:
        self._dynamic = dynamic
        self._finite_in_a_row = 0
        self.value = FIRST_SCALE if dynamic else 1.0
        self.skipped_updates = 0

    def count(self, *, is_finite: bool, is_too_large: bool = False) -> None:
        """Take note of one update: skipped if its gradient was not finite or too large, else done."""
        self.skipped_updates += is_too_large or not is_finite
        self._finite_in_a_row = self._finite_in_a_row + 1 if is_finite else 0
        if not self._dynamic:
            return
        if not is_finite:
            self.value = max(1.0, self.value / 2)
        elif self._finite_in_a_row % GROWTH_INTERVAL == 0:
            self.value *= 2

    def scalars(self) -> dict[str, float]:
        """What a resumed training has to know."""
        found = {"skipped_updates": self.skipped_updates, "finite_in_a_row": self._finite_in_a_row}
        return found | ({"loss_scale": self.value} if self._dynamic else {})

    def load(self, scalars: Mapping[str, float]) -> None:
        """Take over `scalars()`; what is missing (a training that began in float32) stays as it is."""
        self.skipped_updates = int(scalars.get("skipped_updates", self.skipped_updates))
        self._finite_in_a_row = int(scalars.get("finite_in_a_row", self._finite_in_a_row))
        if self._dynamic:
            self.value = scalars.get("loss_scale", self.value)
