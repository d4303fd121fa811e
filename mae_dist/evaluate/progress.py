"""How far an evaluation is, told where the runner looks: progress.json in its output folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from mae_dist import storage

SHOW_SECONDS = 2.0
"""Between two looks at how far something is."""


def shower(output: str, what: str) -> Callable[..., None]:
    """A function of (done, total) and perhaps a loss that writes it down, at most every SHOW_SECONDS."""
    last = -math.inf

    def show(done: int, total: int, loss: float | None = None) -> None:
        nonlocal last
        if done < total and time.monotonic() - last < SHOW_SECONDS:
            return
        last = time.monotonic()
        text = f"{what} {done}/{total}" + ("" if loss is None else f"  loss of the best {loss:.4f}")
        storage.write_json(
            storage.join(output, "progress.json"), {"step": done, "total_steps": total, "text": text}
        )

    return show
