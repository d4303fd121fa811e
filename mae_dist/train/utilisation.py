"""How much of its devices a training uses: the operations that its samples need, against the peak.

MFU, model FLOPs utilisation (arXiv 2204.02311), is what the mathematics of the step needs per second and
device (model/operations.py) over what the device can do. Nothing that is skipped counts, nor what is computed
twice to save memory; time spent waiting for data does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import torch


class Peak(NamedTuple):
    """Dense matrix products of a GPU in TFLOP/s; None: it has no such products, or no data sheet says."""

    bf16: float | None
    fp16: float
    fp32: float | None
    """Without TF32, which trainings here do not use."""


PEAKS: dict[str, Peak] = {
    "B200": Peak(bf16=2250.0, fp16=2250.0, fp32=None),
    "GH200": Peak(bf16=989.0, fp16=989.0, fp32=67.0),
    "H200 NVL": Peak(bf16=835.5, fp16=835.5, fp32=60.0),
    "H200": Peak(bf16=989.0, fp16=989.0, fp32=67.0),
    "H100 NVL": Peak(bf16=835.5, fp16=835.5, fp32=60.0),
    "H100 PCIe": Peak(bf16=756.0, fp16=756.0, fp32=51.0),
    "H100": Peak(bf16=989.0, fp16=989.0, fp32=67.0),
    "A100": Peak(bf16=312.0, fp16=312.0, fp32=19.5),
    "L40S": Peak(bf16=362.0, fp16=362.0, fp32=91.6),
    "L4": Peak(bf16=121.0, fp16=121.0, fp32=30.3),
    "A10G": Peak(bf16=70.0, fp16=70.0, fp32=None),
    "A10": Peak(bf16=125.0, fp16=125.0, fp32=31.2),
    "V100S": Peak(bf16=None, fp16=130.0, fp32=16.4),
    "V100-PCIE": Peak(bf16=None, fp16=112.0, fp32=14.0),
    "V100": Peak(bf16=None, fp16=125.0, fp32=15.7),
    "T4": Peak(bf16=None, fp16=65.0, fp32=8.1),
}
"""By a part of the name that CUDA gives, the longer names first. From NVIDIA's data sheet of each product, of
which many print twice as much: that is with structured sparsity."""

_FIELDS = {torch.bfloat16: "bf16", torch.float16: "fp16", None: "fp32"}


def known_peak(device_name: str, autocast_dtype: torch.dtype | None) -> float | None:
    """TFLOP/s of a whole device of this name in products of this type (None: fp32), if it is in the table."""
    if re.search(r"\bMIG\b", device_name):
        return None  # a part of a GPU, of a size that the name tells in other units
    for name, peak in PEAKS.items():
        if re.search(rf"\b{name}\b", device_name):
            return getattr(peak, _FIELDS[autocast_dtype])
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
