"""A training that has grown gives back what another step needs, and takes it again, without losing a step."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from mae_dist import storage
from mae_dist.config.load import load
from mae_dist.orchestrate.step import PRETRAINING, Demand, Patience, Step
from mae_dist.orchestrate.store import RunStore
from tests.integration import small_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

PATIENCE_SECONDS = 300.0
OTHER_CPUS = 3
"""Of six, of which the training takes two for each worker and a part of one to decode."""
RESOURCES = {"workers": [1, 2], "cpus_per_worker": 2, "resize_seconds": 1, "zero_stage": 1, "max_failures": 0}


def wait_for_workers(metrics: str, number: int, *, after: int = 0) -> int:
    """The last step logged, once it is of so many workers and comes after `after`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = lines(Path(metrics))
        if found and found[-1]["workers"] == number and found[-1]["step"] > after:
            return found[-1]["step"]
        time.sleep(0.1)
    raise AssertionError(f"there were never {number} workers after step {after}")


def lines(metrics: Path) -> list[dict[str, Any]]:
    text = metrics.read_text() if metrics.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_until_grown(config: str, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """A step that ends when the training has two workers."""
    return {"grown": wait_for_workers(config, 2)}


def take_room(config: str, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """A step that needs the room of the second, and keeps it until the training has gone on without."""
    import ray

    @ray.remote(num_cpus=OTHER_CPUS)
    class Holder:
        def ping(self) -> None:
            """Answers once it has the CPUs."""

    holder = Holder.remote()
    ray.get(holder.ping.remote(), timeout=PATIENCE_SECONDS)
    shrunk = wait_for_workers(config, 1)
    return {"shrunk": shrunk, "last": wait_for_workers(config, 1, after=shrunk + 5)}


def test_a_training_shrinks_so_that_another_step_can_start_and_grows_when_that_has_ended(tmp_path):
    from mae_dist.orchestrate.experiment import build_steps
    from mae_dist.orchestrate.preflight import check_inputs
    from mae_dist.orchestrate.runner import run_steps

    config = load(
        small_run.recipe(
            tmp_path / "small.yaml",
            str(tmp_path),
            train=small_run.TRAIN | {"length": "100000 steps", "micro_batch": 2},
            resources=RESOURCES,
            checkpoint={"every": "1000 steps", "keep": 2},
            log={"every": 1},
        )
    )
    run = tmp_path / "run"
    metrics = run / "metrics.jsonl"
    catalog, pretrain, _ = build_steps(config, check_inputs(config).digests, use_gpu=False)
    # Of no lower priority: room that a more important step may grow into is left to it.
    given: dict[str, Any] = {"config": str(metrics), "identity": 1, "priority": PRETRAINING}
    patience = Patience(timeout_seconds=PATIENCE_SECONDS)
    pretrain, given["patience"] = replace(pretrain, patience=patience), patience
    grown = Step(name="grown", run=wait_until_grown, output="grown", demand=Demand(cpus=0.1), **given)
    other = Step(
        name="other", run=take_room, output="other", needs=(grown,), demand=Demand(cpus=OTHER_CPUS), **given
    )

    def show(statuses: Any) -> None:
        found, state = lines(metrics), {status.step.name: status.state for status in statuses}
        if state["other"] == "done" and found[-1]["workers"] == 2:
            storage.write_json(f"{run}/requests/cancel-1.json", {"step": "pretrain", "by": "the test"})

    ended = run_steps([catalog, pretrain, grown, other], RunStore(str(run)), show=show)
    states = {status.step.name: (status.state, status.reason) for status in ended}
    assert states["other"] == ("done", None)
    assert states["pretrain"] == ("cancelled", "cancelled by the test")

    found = lines(metrics)
    worlds = [number for number, _ in groupby(found, key=lambda line: line["workers"])]
    assert worlds[-3:] == [2, 1, 2]
    # It saved before it stopped, so that no step was made twice; a checkpoint of its own was far away.
    assert [line["step"] for line in found] == list(range(1, len(found) + 1))
    assert {line["faults"] for line in found} == {0}
