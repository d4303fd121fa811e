"""How much of its devices a training uses: the operations that its samples need, against the peak.

MFU, model FLOPs utilisation (arXiv 2204.02311), is what the mathematics of the step needs per second and
device (model/operations.py) over what the device can do (gpus.py). Nothing that is skipped counts, nor what
is computed twice to save memory; time spent waiting for data does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from mae_dist.train.gpus import GPUS

_FIELDS = {torch.bfloat16: "bf16", torch.float16: "fp16", None: "fp32"}


def known_peak(device_name: str, autocast_dtype: torch.dtype | None) -> float | None:
    """TFLOP/s of a whole device of this name in products of this type (None: fp32), if it is in the table."""
    if re.search(r"\bMIG\b", device_name):
        return None  # a part of a GPU, of a size that the name tells in other units
    for name, gpu in GPUS.items():
        if re.search(rf"\b{name}\b", device_name):
            return getattr(gpu, _FIELDS[autocast_dtype])
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Utilisation:
    """Turns samples per second into the use of one device."""

    operations: int
    """Of one sample in a training step."""
    world: int
    peak_tflops: float | None
    """Of one rank's device; None: not known."""

    def figures(self, samples_per_second: float) -> dict[str, float]:
        """`tflops` that were needed per device, and as a share of the peak, `mfu`, where that is known."""
        tflops = self.operations * samples_per_second / self.world / 1e12
        return {"tflops": tflops} | ({} if self.peak_tflops is None else {"mfu": tflops / self.peak_tflops})
