"""A cluster of three nodes and a pretraining that moves in it, in a process of its own.

    python -m tests.faults.elastic_cluster FOLDER        leaves FOLDER/elastic.json and FOLDER/runs

A node with a worker and decode tasks is lost, and later another one comes. The run is ended when it has used
that one for a while.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from ray.cluster_utils import Cluster

from mae_dist import storage
from tests.integration import small_run

WORKER_CPUS, DECODE_CPUS, NODE_CPUS = 2, 0.5, 3
"""Room for one worker and two decode tasks."""
HEALTH_CHECKS = {
    # As in cluster/: a node whose processes are gone is given up after five seconds instead of fifteen.
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 5,
}
STEPS = 100_000
"""More than are ever made."""


def wait_for(what: Callable[[], Any], *, seconds: float = 240) -> Any:
    """What `what` returns, as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)
    return found


def lines(runs: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl."""
    files = list(runs.glob("small-*/metrics.jsonl"))
    text = files[0].read_text() if files else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def last(runs: Path, *, workers: int, more_than: int = 0) -> dict[str, Any] | None:
    """The last line, if it is of so many workers and comes after more than so many of theirs."""
    found = lines(runs)
    if not found or sum(line["workers"] == workers for line in found[-more_than - 1 :]) <= more_than:
        return None
    return found[-1]


def is_decoding(node: Any) -> bool:
    """Whether a task that builds blocks runs on the node."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    titles = []
    for process in raylet.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            titles.append(" ".join(process.cmdline()))
    return any("MapBatches(build)" in title for title in titles)


def main(folder: Path) -> None:
    """Run the story and write down what happened when."""
    # Threads that wait for each other in a loop take the machine from everything else here.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "object_store_memory": 128 << 20,
            "include_dashboard": False,
            "_system_config": HEALTH_CHECKS,
        },
    )
    node = {"num_cpus": NODE_CPUS, "num_gpus": 0, "object_store_memory": 128 << 20}
    nodes = [cluster.add_node(**node) for _ in range(2)]
    runs = folder / "runs"
    recipe = small_run.recipe(
        folder / "small.yaml",
        str(runs),
        train=small_run.TRAIN | {"length": f"{STEPS} steps", "micro_batch": 2},
        resources={
            "workers": [1, 2],
            "cpus_per_worker": WORKER_CPUS,
            "resize_seconds": 2,
            "zero_stage": 2,
            "max_failures": 1,
        },
        data={"catalog": small_run.CATALOG, "cpus_per_task": DECODE_CPUS},
        checkpoint={"every": "10 steps", "keep": 3},
        log={"every": 1, "ledger": True},
    )
    local = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    output = (folder / "output.txt").open("w")
    job = small_run.start(recipe, folder / "home", output=output, **local)
    told: dict[str, Any] = {}
    try:
        wait_for(lambda: last(runs, workers=2, more_than=12))
        wait_for(lambda: is_decoding(nodes[0]))
        told["lost_at"] = lines(runs)[-1]["step"]
        lost = time.monotonic()
        cluster.remove_node(nodes[0], allow_graceful=False)
        told["first_alone"] = wait_for(lambda: last(runs, workers=1))["step"]
        told["seconds_to_next_step"] = time.monotonic() - lost
        came = time.monotonic()
        cluster.add_node(**node)
        told["last_alone"] = 0

        def grown() -> dict[str, Any] | None:
            line = lines(runs)[-1]
            if line["workers"] == 1:
                told["last_alone"] = line["step"]
            return line if line["workers"] == 2 and line["step"] > told["first_alone"] else None

        told["first_together"] = wait_for(grown)["step"]
        told["seconds_to_growth"] = time.monotonic() - came
        wait_for(lambda: last(runs, workers=2, more_than=8))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        output.close()
        storage.write_json(str(folder / "elastic.json"), told)
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
