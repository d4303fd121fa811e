"""What the files of a run say happened, and how that differs from another run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from tests.faults.watched_job import BLOCKS_PER_STEP

Blocks = dict[int, tuple[tuple[int, ...], str]]
"""Micro-batch -> samples, digest of what the model saw of them."""


def losses(run: Path) -> dict[int, float]:
    """Step -> loss, of metrics that name each step once and in order."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return {line["step"]: line["loss"] for line in lines}


def attempts(run: Path) -> list[Blocks]:
    """What each worker group received, in the order of their lives; asserts that no block came twice."""
    files: dict[str, list[Path]] = {}
    for file in (run / "ledger").iterdir():
        files.setdefault(file.name.split("-rank-")[0], []).append(file)
    ordered = sorted(files.values(), key=lambda ranks: max(file.stat().st_mtime_ns for file in ranks))
    return [_blocks(ranks) for ranks in ordered]


def _blocks(ranks: list[Path]) -> Blocks:
    blocks: Blocks = {}
    for file in ranks:
        for line in file.read_bytes().split(b"\n")[:-1]:  # the last one may be torn
            entry = json.loads(line)
            assert entry["block"] not in blocks, f"{file}: block {entry['block']} came twice"
            blocks[entry["block"]] = (tuple(entry["samples"]), entry["sha256"])
    return blocks


def used(run: Path) -> Blocks:
    """What the final weights were made from: of each group what came before the next one's first step."""
    effective: Blocks = {}
    for blocks in attempts(run):
        if blocks:
            first = min(blocks) // BLOCKS_PER_STEP * BLOCKS_PER_STEP
            effective = {number: seen for number, seen in effective.items() if number < first} | blocks
    return effective


def final_state(run: Path) -> dict[str, Tensor]:
    """Weights, optimiser and all else of the last checkpoint, by name of the fragment."""
    folder = max(marker.parent for marker in run.glob("checkpoints/step-*/COMPLETE"))
    state: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        state |= safetensors.torch.load_file(file)
    return state


def differences(run: Path, clean: Path, *, tolerance: float | None = None) -> list[str]:
    """How a run that was disturbed differs from one that was not; empty if in nothing.

    `tolerance` is relative and of the losses; None compares them, and the last checkpoint and the exported
    weights, bit by bit.
    """
    found = []
    if run.name != clean.name:
        found.append(f"another run: {run.name}, not {clean.name}")
    now, then = (used(where) for where in (run, clean))
    missing, doubled = sorted(then.keys() - now.keys()), sorted(now.keys() - then.keys())
    if missing or doubled:
        found.append(f"blocks lost: {missing}, blocks too many: {doubled}")
    other = [number for number in sorted(now.keys() & then.keys()) if now[number] != then[number]]
    if other:
        found.append(f"blocks of other content: {other}")
    found += _different_losses(losses(run), losses(clean), tolerance or 0.0)
    if tolerance is None:
        weights = [safetensors.torch.load_file(where / "export/model.safetensors") for where in (run, clean)]
        for kind, (mine, theirs) in {
            "exported weights": weights,
            "last checkpoint": [final_state(run), final_state(clean)],
        }.items():
            names = sorted(mine.keys() ^ theirs.keys())
            names += [
                name for name in sorted(mine.keys() & theirs.keys()) if not _same(mine[name], theirs[name])
            ]
            if names:
                found.append(f"{kind} differ in {len(names)} of {len(theirs)}: {', '.join(names[:4])}")
    return found


def largest_difference(run: Path, clean: Path) -> float:
    """Relative, over the losses of all steps."""
    now, then = losses(run), losses(clean)
    return max(abs(now[step] - loss) / abs(loss) for step, loss in then.items())


def _different_losses(now: dict[int, float], then: dict[int, float], tolerance: float) -> list[str]:
    if now.keys() != then.keys():
        return [f"{len(now)} steps instead of {len(then)}"]
    steps = [step for step in then if now[step] != then[step]]
    if tolerance:
        steps = [step for step in steps if not math.isclose(now[step], then[step], rel_tol=tolerance)]
    if not steps:
        return []
    first = steps[0]
    return [f"{len(steps)} losses differ, the first at step {first}: {now[first]}, not {then[first]}"]


def _same(mine: Tensor, theirs: Tensor) -> bool:
    return mine.dtype == theirs.dtype and torch.equal(mine, theirs)
