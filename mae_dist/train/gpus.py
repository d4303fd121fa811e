"""What common GPUs hold and can do, from NVIDIA's data sheets.

The one table of them: the log's share of the peak (utilisation.py) and the planning of a run read it. Plain
numbers without torch.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mae_dist.config.problems import suggestion


class Gpu(NamedTuple):
    """One product. Products of matrices in TFLOP/s, dense; None: it has none, or no data sheet says."""

    memory_gb: tuple[int, ...]
    """Of each variant, in 10^9 bytes, the smallest first."""
    bf16: float | None
    fp16: float
    fp32: float | None
    """Without TF32, which trainings here do not use."""
    source: str


GPUS: dict[str, Gpu] = {
    "B200": Gpu((180,), bf16=2250.0, fp16=2250.0, fp32=None, source="DGX B200 data sheet, an eighth"),
    "GH200": Gpu((96, 144), bf16=989.0, fp16=989.0, fp32=67.0, source="GH200 Grace Hopper data sheet"),
    "H200 NVL": Gpu((141,), bf16=835.5, fp16=835.5, fp32=60.0, source="H200 data sheet"),
    "H200": Gpu((141,), bf16=989.0, fp16=989.0, fp32=67.0, source="H200 data sheet"),
    "H100 NVL": Gpu((94,), bf16=835.5, fp16=835.5, fp32=60.0, source="H100 data sheet"),
    "H100 PCIe": Gpu((80,), bf16=756.0, fp16=756.0, fp32=51.0, source="H100 PCIe product brief"),
    "H100": Gpu((80,), bf16=989.0, fp16=989.0, fp32=67.0, source="H100 data sheet, SXM"),
    "A100": Gpu((40, 80), bf16=312.0, fp16=312.0, fp32=19.5, source="A100 data sheet"),
    "L40S": Gpu((48,), bf16=362.0, fp16=362.0, fp32=91.6, source="L40S data sheet"),
    "L4": Gpu((24,), bf16=121.0, fp16=121.0, fp32=30.3, source="L4 data sheet"),
    "A10G": Gpu((24,), bf16=70.0, fp16=70.0, fp32=None, source="A10G data sheet"),
    "A10": Gpu((24,), bf16=125.0, fp16=125.0, fp32=31.2, source="A10 data sheet"),
    "V100S": Gpu((32,), bf16=None, fp16=130.0, fp32=16.4, source="V100 data sheet"),
    "V100-PCIE": Gpu((16, 32), bf16=None, fp16=112.0, fp32=14.0, source="V100 data sheet"),
    "V100": Gpu((16, 32), bf16=None, fp16=125.0, fp32=15.7, source="V100 data sheet, SXM2"),
    "T4": Gpu((16,), bf16=None, fp16=65.0, fp32=8.1, source="T4 data sheet"),
}
"""By a part of the name that CUDA gives, the longer names first. Many data sheets print twice the rate: that
is with structured sparsity."""


def gpu_named(text: str) -> tuple[str, Gpu, int]:
    """(name, data, memory in 10^9 bytes) of what a user calls a GPU: h100, h100-nvl, a100-80gb.

    Where a product comes with several memories and none is named, it is the smallest. Raises ValueError for
    a GPU or a memory that is not in the table.
    """
    match = re.fullmatch(r"(.*?)(?:[- _](\d+)gb)?", text.strip().lower())
    assert match is not None
    spelt = {_spelling(name): name for name in GPUS}
    name = spelt.get(_spelling(match[1]))
    if name is None:
        close = suggestion(_spelling(match[1]), spelt)
        raise ValueError(f"no GPU is known as {text!r}{close}; there are {', '.join(spelt)}")
    gpu, memory_gb = GPUS[name], GPUS[name].memory_gb[0]
    if match[2] is not None:
        memory_gb = int(match[2])
        if memory_gb not in gpu.memory_gb:
            sizes = " and ".join(str(size) for size in gpu.memory_gb)
            raise ValueError(f"{name} comes with {sizes} GB of memory, got {text!r}")
    return name, gpu, memory_gb


def _spelling(name: str) -> str:
    return re.sub(r"[ _]", "-", name.lower())
