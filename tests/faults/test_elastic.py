"""A node with a worker and decode tasks is lost and another one comes: the same curve, the same samples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mae_dist.config.load import load
from mae_dist.data.batch import build_block
from mae_dist.train.training import Training
from mae_dist.train.worker import build_engine, build_task
from tests.integration.small_run import run_directory

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def moved(tmp_path_factory) -> Path:
    """The folder of a run that lost a node and got another one; elastic.json says when."""
    folder = tmp_path_factory.mktemp("moved")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(folder), "PYTHONPATH": str(ROOT)}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    # In a process of its own, because this one belongs to the session's Ray.
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.elastic_cluster", str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    output = folder / "output.txt"
    assert done.returncode == 0, done.stderr + (output.read_text() if output.exists() else "")
    return folder


@pytest.fixture(scope="module")
def told(moved) -> dict[str, Any]:
    return json.loads((moved / "elastic.json").read_text())


@pytest.fixture(scope="module")
def lines(moved) -> list[dict[str, Any]]:
    text = (run_directory(moved / "runs") / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture(scope="module")
def undisturbed(moved, lines) -> tuple[list[float], dict[int, list[int]]]:
    """The losses of the same steps on one rank without Ray, and the samples of every block."""
    run = run_directory(moved / "runs")
    plain = ["resources.workers=1", "resources.engine=torch", "resources.zero_stage=0"]
    training = Training(
        config=load(str(run / "config.yaml"), plain),
        output=str(moved / "undisturbed"),
        catalog=str(run / "catalog" / "train" / "catalog.parquet"),
    )
    catalog = training.training_samples()
    schedule, pace = training.schedule(catalog), training.pace(catalog, world=1)
    device = torch.device("cpu")
    engine = build_engine(build_task(training, num_classes=0), training, pace, device)
    losses, samples = [], {}
    for step in range(len(lines)):
        total = 0.0
        for block in range(step * pace.accumulation, (step + 1) * pace.accumulation):
            columns = build_block(block, catalog, training.stream())
            samples[block] = columns["sample"].tolist()
            out = engine({name: torch.from_numpy(columns[name]) for name in ("clips", "keep")})
            engine.backward(out.loss)
            total += float(out.loss.detach())
        engine.step(schedule.lr(step))
        losses.append(total / pace.accumulation)
    return losses, samples


def test_the_next_step_comes_within_45_seconds_of_the_loss_of_a_node(told):
    assert told["seconds_to_next_step"] <= 45


def test_the_run_goes_on_with_fewer_and_grows_again_without_losing_a_step(told, lines):
    assert told["first_together"] > told["last_alone"] > 0
    worlds = [line["workers"] for line in lines]
    assert worlds == sorted(worlds[: told["first_alone"]], reverse=True) + worlds[told["first_alone"] :]
    assert {1, 2} == set(worlds)
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))


def test_the_losses_are_those_of_an_undisturbed_run(lines, undisturbed):
    np.testing.assert_allclose([line["loss"] for line in lines], undisturbed[0], rtol=1e-6)


def test_every_sample_is_used_once_in_its_step(moved, undisturbed):
    """Of what a group had read, what came after the checkpoint that the next one began at is left out."""
    _, expected = undisturbed
    groups: dict[str, list[dict[str, Any]]] = {}
    for file in (run_directory(moved / "runs") / "ledger").iterdir():
        text = file.read_text().splitlines(keepends=True)
        entries = [json.loads(line) for line in text if line.endswith("\n")]
        groups.setdefault(file.name.partition("-")[0], []).extend(entries)
    in_order = sorted(groups.values(), key=lambda entries: min(entry["block"] for entry in entries))
    firsts = [min(entry["block"] for entry in entries) for entries in in_order]
    assert len(firsts) == 3
    used: list[tuple[int, list[int]]] = []
    for entries, end in zip(in_order, [*firsts[1:], len(expected)], strict=True):
        used += sorted((entry["block"], entry["samples"]) for entry in entries if entry["block"] < end)
    assert used == sorted(expected.items())
