"""CPU time and memory of a pretraining step, against Hugging Face's ViTMAE and VideoMAE at equal mathematics.

A step is forward, backward and an update by fused AdamW (the default of both sides' trainers), one thread,
in float32 or under bfloat16 autocast. Weights, clips and masks are the same, and the losses of the first
step agree to 1e-6 in float32, or nothing is timed. Every way runs in a process of its own, in turns; what
counts is the CPU time of that process. Much of it may be page faults, because the C library gives large
blocks back at once: so all is measured twice, with the default allocator and with one told to keep memory
(TUNABLES).

    python benchmarks/step.py [--rounds 7] [--compiled] [--cases "image fp32" ...] [--json]

`--compiled` adds torch.compile for clips in float32; its first run takes minutes. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import pretraining
import torch
from pretraining import Case

from mae_dist.config.geometry import Architecture, Stack
from mae_dist.train.compilation import compile_in_place

TUNABLES = {
    "default": "",
    "tuned": "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296"
    ":glibc.malloc.top_pad=268435456",
}
ENCODER = Stack(width=192, depth=12, heads=3)
CASES = {
    "image": (
        Case(
            architecture=Architecture(
                patch=16,
                tubelet=1,
                encoder=ENCODER,
                decoder=Stack(width=128, depth=8, heads=4),
                positions="sincos_2d",
                class_token=True,
                key_bias=True,
                bridge_bias=True,
            ),
            frames=1,
            side=224,
        ),
        16,
    ),
    "video": (
        Case(
            architecture=Architecture(
                patch=16,
                tubelet=2,
                encoder=ENCODER,
                decoder=Stack(width=96, depth=4, heads=3),
                positions="sincos_1d",
                class_token=False,
                key_bias=False,
                bridge_bias=False,
                init="videomae",
            ),
            frames=16,
            side=224,
        ),
        2,
    ),
}
"""Case and samples of one step."""
DTYPES = {"fp32": None, "bf16": torch.bfloat16}
GOALS = {"image fp32": 1.10, "image bf16": 1.75, "video fp32": 1.08, "video bf16": 1.2}
COMPILED_GOALS = {"video fp32": 1.2}
MEGABYTE = 1 << 20


class Runner:
    """One way in this process: builds it and runs its steps."""

    def __init__(self, way: str, name: str) -> None:
        kind, precision = name.split()
        case, size = CASES[kind]
        self._dtype = DTYPES[precision]
        batch = pretraining.make_batch(case, size, seed=0)
        task = pretraining.our_task(case)
        if way == "theirs":
            model, inputs = pretraining.their_model(case, task), pretraining.their_inputs(case, batch)
            del task, batch
            self._loss_of: pretraining.Loss = lambda: model(**inputs).loss
            # As the optimiser that their Trainer takes, without its layer of parameter groups.
            self._optimizer: torch.optim.Optimizer = torch.optim.AdamW(
                [p for p in model.parameters() if p.requires_grad],
                lr=pretraining.OPTIM.base_lr,
                betas=pretraining.OPTIM.betas,
                weight_decay=pretraining.OPTIM.weight_decay,
                fused=True,
            )
        else:
            if way == "ours compiled":
                compile_in_place(task.model, torch.device("cpu"))
            self._loss_of = lambda: task(batch).loss
            self._optimizer = pretraining.our_optimizer(task, case)

    def first_loss(self) -> float:
        """The loss before any update, which makes it too."""
        return pretraining.train_step(self._loss_of, self._optimizer, self._dtype).item()

    def step_seconds(self) -> float:
        """CPU time of one step."""
        start = time.process_time()
        pretraining.train_step(self._loss_of, self._optimizer, self._dtype)
        return time.process_time() - start


def run_way(pipe: Connection, way: str, name: str) -> None:
    """Answer with the first loss, then "step" with seconds and "peak" with bytes, until told to stop."""
    torch.set_num_threads(1)
    before = memory_bytes("RssAnon")
    runner = Runner(way, name)
    pipe.send(runner.first_loss())
    while (question := pipe.recv()) != "stop":
        if question == "step":
            pipe.send(runner.step_seconds())
        else:
            # Pages of libraries are counted when they are first used, which says nothing about the step.
            pipe.send(memory_bytes("VmHWM") - memory_bytes("RssFile") - before)


def memory_bytes(field: str) -> int:
    """A field of this process' memory accounts (Linux)."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def serve(pipe: Connection) -> None:
    """In a process with one allocator: start a process for every way that is asked for, imports done."""
    import transformers.models.videomae.modeling_videomae
    import transformers.models.vit_mae.modeling_vit_mae  # noqa: F401

    context = multiprocessing.get_context("fork")
    while (asked := pipe.recv()) is not None:
        way, name, own = asked
        context.Process(target=run_way, args=(own, way, name), daemon=True).start()
        own.close()


@contextmanager
def servers() -> Iterator[dict[str, Connection]]:
    """A server for each allocator, which only the environment of a new process can choose."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for allocator, tunables in TUNABLES.items():
        pipes[allocator], theirs = context.Pipe()
        os.environ["GLIBC_TUNABLES"] = tunables
        process = context.Process(target=serve, args=(theirs,))
        process.start()
        processes.append(process)
    yield pipes
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.join()


def measure(pipes: dict[str, Connection], name: str, ways: list[str], rounds: int) -> dict[str, Any]:
    """Allocator -> way -> seconds of each round and peak bytes; all in turns."""
    runners: dict[tuple[str, str], Connection] = {}
    for allocator, server in pipes.items():
        for way in ways:
            runners[allocator, way], theirs = multiprocessing.get_context("spawn").Pipe()
            server.send((way, name, theirs))
            theirs.close()
    losses = {key: runner.recv() for key, runner in runners.items()}
    tolerance = 1e-6 if name.endswith("fp32") else 1e-2
    for key, loss in losses.items():
        expected = losses[key[0], "theirs"]
        if abs(loss - expected) > tolerance * abs(expected):
            raise RuntimeError(f"{name}, {key}: loss {loss}, theirs is {expected}")
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runners}
    for number in range(rounds + 1):
        # In changing order, so that nobody always comes after the same one.
        turn = list(runners) if number % 2 else list(reversed(runners))
        for key in turn:
            runners[key].send("step")
            spent = runners[key].recv()
            if number:  # the first round warms up
                seconds[key].append(spent)
    found: dict[str, Any] = {}
    for (allocator, way), runner in runners.items():
        runner.send("peak")
        found.setdefault(allocator, {})[way] = {"seconds": seconds[allocator, way], "bytes": runner.recv()}
        runner.send("stop")
    return found


def claims_of(name: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Medians over the rounds of the ratios within a round, and the ratio of peak memory."""
    claims = []
    for allocator, ways in found.items():
        for way, goals in (("ours", GOALS), ("ours compiled", COMPILED_GOALS)):
            if way not in ways or name not in goals:
                continue
            pairs = zip(ways["theirs"]["seconds"], ways[way]["seconds"], strict=True)
            ratio = statistics.median(theirs / own for theirs, own in pairs)
            what = f"{name} step, {way}, {allocator} allocator: times Hugging Face, CPU time"
            claims.append(claim(what, ratio, goals[name], met=ratio >= goals[name]))
        ratio = ways["ours"]["bytes"] / ways["theirs"]["bytes"]
        what = f"{name} step, {allocator} allocator: peak memory without imports, of Hugging Face's, at most"
        claims.append(claim(what, ratio, 1.0, met=ratio <= 1))
    return claims


def claim(what: str, measured: float, goal: float, *, met: bool) -> dict[str, Any]:
    """One claim as every benchmark prints it."""
    return {"what": what, "measured": round(measured, 3), "goal": goal, "met": met}


def row(name: str, allocator: str, ways: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds, samples per second and megabytes of every way."""
    size = CASES[name.split()[0]][1]
    line: dict[str, Any] = {"case": name, "allocator": allocator}
    for way, values in ways.items():
        median = statistics.median(values["seconds"])
        line[way] = {
            "ms": round(1000 * median, 1),
            "samples/s/core": round(size / median, 2),
            "MB": round(values["bytes"] / MEGABYTE),
        }
    return line


def main() -> None:
    """Measure case by case and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compiled", action="store_true", help="torch.compile too, for clips in float32")
    parser.add_argument("--cases", nargs="+", choices=list(GOALS), default=list(GOALS))
    parser.add_argument("--json", action="store_true", help="print the claims as JSON")
    arguments = parser.parse_args()
    claims, rows = [], []
    with servers() as pipes:
        for name in arguments.cases:
            ways = ["theirs", "ours"]
            if arguments.compiled and name in COMPILED_GOALS:
                ways.append("ours compiled")
            found = measure(pipes, name, ways, arguments.rounds)
            claims += claims_of(name, found)
            rows += [row(name, allocator, values) for allocator, values in found.items()]
    if arguments.json:
        print(json.dumps({"claims": claims, "steps": rows}, indent=1))
        return
    for line in rows:
        print(line)
    for entry in claims:
        print(f"{entry['measured']}x (goal {entry['goal']}x): {entry['what']}")


if __name__ == "__main__":
    main()
