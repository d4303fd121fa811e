"""How much of a GPU a pretraining step uses: samples/s, TFLOP/s, MFU and memory, one table.

Papers' models and inputs, bfloat16 autocast, fused AdamW, clips as uint8 on the device, one GPU; eager and
compiled, and Hugging Face's models beside them where transformers is installed. The ways of a model share
weights, clips and masks, their losses are compared in float32 first, and they are timed in turns. Operations
are those that our step really makes (`model.operations`, counting "needed"); Hugging Face's step is rated by
the same number, so that it gets nothing for what it could have left out.

    python3 benchmarks/gpu_step.py [--models mae_base ...] [--ways eager compiled huggingface] [--json]

Needs torch, numpy, einops and pydantic, neither Ray nor DeepSpeed, and nothing installed of this repository.
A batch that does not fit is halved until it does. Try it without a GPU:

    python3 benchmarks/gpu_step.py --device cpu --models mae_micro videomae_micro --batch 2 --ways eager
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

try:
    import pretraining
    import torch
    from pretraining import Case

    from mae_dist.config.geometry import ARCHITECTURES
    from mae_dist.model.operations import forward_multiply_adds, training_operations
    from mae_dist.model.sizes import INPUTS
    from mae_dist.train.compilation import compile_in_place
    from mae_dist.train.utilisation import known_peak
except ModuleNotFoundError as error:
    sys.exit(f"this benchmark needs {error.name}: python3 -m pip install {error.name}")

BATCHES = {"mae_base": 1024, "mae_large": 512, "videomae_base": 128, "videomae_large": 64}
WAYS = ("eager", "compiled", "huggingface")
MFU_GOALS = {"mae_base": 0.30, "videomae_base": 0.30, "mae_large": 0.40, "videomae_large": 0.40}
PEER_GOAL = 1.5
GIGABYTE = 1 << 30


@dataclass(kw_only=True)
class Way:
    """One way to train a model: what a step needs, and what was measured of it."""

    loss_of: pretraining.Loss
    optimizer: torch.optim.Optimizer
    own_bytes: int = 0
    """Weights and optimiser state on the device."""
    peak_bytes: int = 0
    seconds: list[float] | None = None


def build(way: str, case: Case, batch: dict[str, torch.Tensor], device: torch.device) -> Way:
    """The model with the shared weights on the device, and its optimiser."""
    task = pretraining.our_task(case)
    if way == "huggingface":
        model = pretraining.their_model(case, task).to(device)
        inputs = pretraining.their_inputs(case, batch)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            trained, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True
        )
        return Way(loss_of=lambda: model(**inputs).loss, optimizer=optimizer)
    task.to(device)
    if way == "compiled":
        compile_in_place(task.model, device)
    return Way(loss_of=lambda: task(batch).loss, optimizer=pretraining.our_optimizer(task, case))


def check_losses(case: Case, ways: list[str], device: torch.device) -> None:
    """Raise RuntimeError unless the losses of all eager ways agree to 1e-5 in float32."""
    batch = to_device(pretraining.make_batch(case, 2, seed=1), device)
    losses = {}
    for way in ways:
        if way != "compiled":
            with torch.no_grad():
                losses[way] = build(way, case, batch, device).loss_of().item()
    least, most = min(losses.values()), max(losses.values())
    if most - least > 1e-5 * most:
        raise RuntimeError(f"the ways do not compute the same loss: {losses}")


def to_device(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """The batch on the device."""
    return {name: values.to(device) for name, values in batch.items()}


def time_steps(way: Way, steps: int, device: torch.device) -> float:
    """Seconds per step; also keeps the peak of memory that belongs to this way."""
    on_gpu = device.type == "cuda"
    before = 0
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    started = time.perf_counter()
    for _ in range(steps):
        pretraining.train_step(way.loss_of, way.optimizer, torch.bfloat16)
    if on_gpu:
        torch.cuda.synchronize()
        grown = torch.cuda.max_memory_allocated() - before
        way.peak_bytes = max(way.peak_bytes, way.own_bytes + grown)
    return (time.perf_counter() - started) / steps


def measure(
    case: Case, ways: list[str], size: int, *, rounds: int, steps: int, device: torch.device
) -> dict[str, Way]:
    """All ways of one model, warmed up, then in turns; torch's OutOfMemoryError if one does not fit."""
    batch = to_device(pretraining.make_batch(case, size, seed=0), device)
    built: dict[str, Way] = {}
    for name in ways:
        before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
        way = built[name] = build(name, case, batch, device)
        # The first step makes the optimiser's state, and compiles.
        time_steps(way, 1, device)
        if device.type == "cuda":
            way.own_bytes = torch.cuda.memory_allocated() - before
        way.peak_bytes = 0
        time_steps(way, min(steps, 3), device)
        way.seconds = []
    for number in range(rounds):
        for name in ways if number % 2 else reversed(ways):
            way = built[name]
            assert way.seconds is not None
            way.seconds.append(time_steps(way, steps, device))
    return built


def measure_what_fits(
    case: Case, ways: list[str], size: int, *, rounds: int, steps: int, device: torch.device
) -> tuple[int, dict[str, Way]]:
    """The batch that fitted all ways, and what was measured with it."""
    while True:
        try:
            return size, measure(case, ways, size, rounds=rounds, steps=steps, device=device)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
        # Outside the handler, whose traceback holds what has to go.
        torch.compiler.reset()
        torch.cuda.empty_cache()


def peak_tflops(device: torch.device, given: float | None) -> float | None:
    """Of dense bfloat16 products, given or known by the device's name; None if neither."""
    if given is not None or device.type != "cuda":
        return given
    return known_peak(torch.cuda.get_device_name(device), torch.bfloat16)


def row(model: str, way: str, case: Case, size: int, found: Way, peak: float | None) -> dict[str, Any]:
    """One line of the table."""
    assert found.seconds is not None
    seconds = statistics.median(found.seconds)
    cost = forward_multiply_adds(case.architecture, case.grid, num_kept=case.num_kept)
    tflops = training_operations(cost) * size / seconds / 1e12
    return {
        "model": model,
        "way": way,
        "batch": size,
        "ms/step": round(1000 * seconds, 1),
        "samples/s": round(size / seconds, 1),
        "TFLOP/s": round(tflops, 1),
        "MFU": None if peak is None else round(tflops / peak, 3),
        "GB": round(found.peak_bytes / GIGABYTE, 1) or None,
    }


def claims_of(model: str, found: dict[str, Way], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Utilisation of our best way, and its speed against Hugging Face's model in eager mode."""
    own = [line for line in rows if line["model"] == model and line["way"] != "huggingface"]
    if not own or model not in MFU_GOALS:
        return []
    best = max(own, key=lambda line: line["samples/s"])
    claims = []
    if best["MFU"] is not None:
        goal = MFU_GOALS[model]
        what = f"{model}, bf16, {best['way']}: model FLOP utilisation"
        claims.append({"what": what, "measured": best["MFU"], "goal": goal, "met": best["MFU"] >= goal})
    theirs, ours = found.get("huggingface"), found[best["way"]]
    if theirs is not None and theirs.seconds and ours.seconds:
        ratio = statistics.median(t / o for t, o in zip(theirs.seconds, ours.seconds, strict=True))
        what = f"{model}, bf16, {best['way']}: times Hugging Face eager"
        claims.append(
            {"what": what, "measured": round(ratio, 2), "goal": PEER_GOAL, "met": ratio >= PEER_GOAL}
        )
    return claims


def print_table(rows: list[dict[str, Any]]) -> None:
    """As Markdown."""
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for line in rows:
        print("| " + " | ".join("-" if line[name] is None else str(line[name]) for name in names) + " |")


def main() -> None:
    """Measure model by model and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(ARCHITECTURES), default=list(BATCHES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batch", type=int, help="samples per step; by default what fits 140 GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="in each turn")
    parser.add_argument(
        "--peak-tflops", type=float, help="of the device in bf16, for MFU, if it is not known"
    )
    parser.add_argument("--json", action="store_true", help="print the claims and the table as JSON")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device; --device cpu tries the script without one")
    ways = arguments.ways
    if "huggingface" in ways and importlib.util.find_spec("transformers") is None:
        print("transformers is not installed: no comparison with Hugging Face", file=sys.stderr)
        ways = [way for way in ways if way != "huggingface"]
    device = torch.device(arguments.device)
    peak = peak_tflops(device, arguments.peak_tflops)
    rows, claims = [], []
    for model in arguments.models:
        frames, side, _ = INPUTS[model]
        case = Case(architecture=ARCHITECTURES[model], frames=frames, side=side)
        check_losses(case, ways, device)
        size, found = measure_what_fits(
            case,
            ways,
            arguments.batch or BATCHES.get(model, 8),
            rounds=arguments.rounds,
            steps=arguments.steps,
            device=device,
        )
        rows += [row(model, way, case, size, measured, peak) for way, measured in found.items()]
        claims += claims_of(model, found, rows)
        del found
        torch.compiler.reset()
    about = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "peak TFLOP/s": peak,
        "torch": torch.__version__,
    }
    if arguments.json:
        print(json.dumps({"claims": claims, "table": rows} | about, indent=1))
        return
    print(about)
    print_table(rows)
    for claim in claims:
        print(f"{claim['measured']} (goal {claim['goal']}): {claim['what']}")


if __name__ == "__main__":
    main()
