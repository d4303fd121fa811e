"""How far the memory model of `mae-dist plan` is from what a step really holds.

Every case is a process of its own that makes two steps with the real engine, and its peak is compared with
`sizing.memory.peak_memory`. Measured are

    allocated   what torch's allocator has given out: every allocation and release, as the profiler records
                them (CPU), or max_memory_allocated (GPU)
    resident    memory of the process besides imports and files (CPU), which also has what the C library keeps

The ZeRO cases run DeepSpeed on one and two ranks, with the settings of a GPU. On a CPU, attention in half
precision takes the fused kernel here, as a GPU does.

    python benchmarks/memory.py [--device cuda] [--json]
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).parent))

import page
import pretraining
import torch
import torch.distributed as dist
from pretraining import Case

from mae_dist.config.geometry import ARCHITECTURES
from mae_dist.model import transformer
from mae_dist.model.sizes import INPUTS
from mae_dist.model.transformer import recompute_activations
from mae_dist.orchestrate.sizing.activations import pretraining_activations
from mae_dist.orchestrate.sizing.memory import Memory, peak_memory
from mae_dist.orchestrate.sizing.states import Spread, Trained
from mae_dist.train.engine import Engine, TorchEngine

MEGABYTE = 1e6
DTYPES = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A training to measure."""

    model: str
    micro_batch: int
    precision: str = "bf16"
    recompute: bool = False
    stage: int = 0
    world: int = 1
    accumulation: int = 1

    @property
    def case(self) -> Case:
        """The model at the input of its paper."""
        frames, side, _ = INPUTS[self.model]
        return Case(architecture=ARCHITECTURES[self.model], frames=frames, side=side)


MODELS = {"videomae_small": 4, "mae_base": 16, "videomae_base": 4}
"""With their micro-batches on a CPU."""
ON_GPU = 16
"""Times as many on a GPU."""


def measurements(device: str) -> list[Measurement]:
    """Plain ones, then those of DeepSpeed."""
    times = 1 if device == "cpu" else ON_GPU
    found = [
        Measurement(model=model, micro_batch=size * times, precision=precision, recompute=recompute)
        for model, size in MODELS.items()
        for precision in DTYPES
        for recompute in (False, True)
    ]
    worlds = (1, 2) if device == "cpu" else (1,)
    return found + [
        Measurement(
            model="videomae_small", micro_batch=2, stage=stage, world=world, accumulation=accumulation
        )
        for stage in (1, 2, 3)
        for world in worlds
        for accumulation in (1, 2)
    ]


def modelled(given: Measurement) -> Memory:
    """What the planner says of it."""
    case = given.case
    with torch.device("meta"):
        task = pretraining.our_task(case)
    of_encoder, of_all = (sum(p.numel() for p in part.parameters()) for part in (task.model.encoder, task))
    is_half = given.precision != "fp32"
    activations = pretraining_activations(
        case.architecture,
        case.grid,
        num_kept=case.num_kept,
        value_bytes=2 if is_half else 4,
        recompute=given.recompute,
    )
    return peak_memory(
        Trained(encoder=of_encoder, decoder=of_all - of_encoder),
        activations,
        Spread(stage=given.stage, world=given.world, is_half=is_half),
        micro_batch=given.micro_batch,
        accumulation=given.accumulation,
        sample_pixel_bytes=case.frames * case.side**2 * 3,
        recompute=given.recompute,
        batches=1,
    )


def make_engine(given: Measurement, device: torch.device) -> Engine:
    """The engine that a worker would build."""
    case = given.case
    task = pretraining.our_task(case).to(device)
    if given.recompute:
        recompute_activations(task)
    options: dict[str, Any] = {
        "accumulation": given.accumulation,
        "clip_grad_norm": None,
        "autocast_dtype": DTYPES[given.precision],
    }
    if given.stage == 0:
        return TorchEngine(task, lambda module: pretraining.our_optimizer(module, case), **options)
    from mae_dist.train import zero

    # As where there is a GPU: gradients of stage 1 go through a buffer too.
    section = zero._zero_section
    zero._zero_section = lambda stage, offload: section(stage, offload) | {"contiguous_gradients": True}
    return zero.ZeroEngine(
        task,
        lambda module: pretraining.our_optimizer(module, case),
        stage=given.stage,
        micro_batch=given.micro_batch,
        **options,
    )


def train(given: Measurement, device: torch.device) -> None:
    """Two steps, the second of which finds the optimiser's states."""
    batch = {
        name: values.to(device)
        for name, values in pretraining.make_batch(given.case, given.micro_batch, seed=0).items()
    }
    engine = make_engine(given, device)
    for _ in range(2):
        for _ in range(given.accumulation):
            engine.backward(engine(batch).loss)
        engine.step(1e-4)


def allocated_on_cpu(work: Callable[[], None]) -> int:
    """Most bytes that torch's allocator has given out at a time while `work` was done."""
    gc.collect()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        work()
    assert profiler.profiler is not None
    results = profiler.profiler.kineto_results
    assert results is not None
    changes = [(event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]"]
    held = most = 0
    for _, change in sorted(changes, key=lambda one: one[0]):
        held += change
        most = max(most, held)
    return most


def status_bytes(field: str) -> int:
    """A field of this process' memory accounts (Linux)."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def measure_here(
    pipe: Connection, given: Measurement, what: str, device_name: str, rank: int, store: str
) -> None:
    """In a process of its own: send the peak in bytes."""
    torch.set_num_threads(1)
    transformer.PLAIN_TOKENS = 0
    device = torch.device(device_name)
    if given.stage:
        world = str(given.world)
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": world}
        os.environ |= {"MASTER_ADDR": "127.0.0.1"} | (
            {"DS_ACCELERATOR": "cpu"} if device.type == "cpu" else {}
        )
        backend = "gloo" if device.type == "cpu" else "nccl"
        dist.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=given.world)
    if device.type == "cuda":
        train(given, device)
        peak = torch.cuda.max_memory_allocated()
    elif what == "allocated":
        peak = allocated_on_cpu(lambda: train(given, device))
    else:
        before = status_bytes("RssAnon")
        train(given, device)
        peak = status_bytes("VmHWM") - status_bytes("RssFile") - before
    pipe.send(peak)
    if dist.is_initialized():
        dist.destroy_process_group()


def measure(given: Measurement, what: str, device: str) -> int:
    """The peak of the rank that has most."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for rank in range(given.world):
            ours, theirs = context.Pipe()
            store = str(Path(folder) / "store")
            process = context.Process(target=measure_here, args=(theirs, given, what, device, rank, store))
            process.start()
            theirs.close()
            started.append((process, ours))
        peaks = [pipe.recv() for _, pipe in started]
        for process, _ in started:
            process.join()
    return max(peaks)


def row(given: Measurement, device: str) -> dict[str, Any]:
    """What was measured of one case, beside the model."""
    model = modelled(given)
    found = {"allocated": measure(given, "allocated", device)}
    # Of buffers that are given out and never touched the system keeps no pages.
    if device == "cpu" and given.stage == 0:
        found["resident"] = measure(given, "resident", device)
    errors = {name: model.total / bytes_ - 1 for name, bytes_ in found.items()}
    return asdict(given) | {"model": model.total, "moment": model.moment} | found | {"errors": errors}


def cells(line: dict[str, Any]) -> list[str]:
    """A row of the page."""
    stage = (
        f"ZeRO {line['stage']} on {line['world']}, {line['accumulation']} pass(es)"
        if line["stage"]
        else "torch"
    )
    measured = [
        f"{line[name] / MEGABYTE:,.0f} | {line['errors'][name]:+.1%}" if name in line else "- | -"
        for name in ("allocated", "resident")
    ]
    return [
        line["name"],
        str(line["micro_batch"]),
        line["precision"] + (", recomputed" if line["recompute"] else ""),
        stage,
        f"{line['model'] / MEGABYTE:,.0f}",
        line["moment"],
        *measured,
    ]


def main() -> None:
    """Measure case by case, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, write nothing")
    arguments = parser.parse_args()
    rows = []
    for given in measurements(arguments.device):
        rows.append({"name": given.model} | row(given, arguments.device))
        print(cells(rows[-1]), file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    head = ["model", "micro-batch", "products", "engine", "model, MB", "peak in", "allocated, MB", "error"]
    text = page.table(
        [*head, "resident, MB", "error"], [" | ".join(cells(line)).split(" | ") for line in rows]
    )
    print(text)


if __name__ == "__main__":
    main()
