"""A run directory with what its driver writes while it works, for the commands that follow a run."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from typing import Any

import psutil
import yaml

from mae_dist import storage
from mae_dist.orchestrate.pulse import boot_id

NOBODY = 2**22 + 1
"""No process has this id."""


@dataclass(frozen=True)
class FollowedRun:
    """A run directory; its methods write one part each."""

    uri: str

    def write(self, path: str, content: Any) -> None:
        """One file: bytes, text, or anything else as JSON."""
        data = content if isinstance(content, bytes | str) else json.dumps(content)
        storage.write_bytes(storage.join(self.uri, path), data if isinstance(data, bytes) else data.encode())

    def write_config(self, *evaluations: str, **changes: Any) -> None:
        """config.yaml of a run with these evaluations."""
        config = {
            "name": "demo",
            "data": {"catalog": "train", "test_catalog": "test"},
            "evaluations": {name: {"protocol": name} for name in evaluations},
        }
        self.write("config.yaml", yaml.safe_dump(config | changes))

    def write_steps(self, *steps: dict[str, Any], **changes: Any) -> None:
        """steps.json with these `entry`s."""
        about = {"schema": 1, "driver": 1, "written": 1000.0, "ended": False, "history": []}
        self.write("steps.json", about | {"steps": list(steps)} | changes)

    def write_driver(self, life: str = "alive", *, number: int = 1, beat: int = 0) -> None:
        """drivers/NUMBER.json of one that is alive (this process), gone, ended, or works elsewhere."""
        owner = {
            "host": socket.gethostname() if life != "elsewhere" else "node-7",
            "boot": boot_id() if life != "elsewhere" else "another",
            "pid": os.getpid() if life == "alive" else NOBODY,
            "process_started": psutil.Process().create_time(),
            "command": "mae-dist run pretrain/demo",
            "id": f"driver-{number}",
        }
        self.write(f"drivers/{number:06d}.json", owner | {"beat": beat, "released": life == "ended"})


def entry(name: str, state: str = "waiting", **changes: Any) -> dict[str, Any]:
    """One step of steps.json."""
    output = {"pretrain": "", "catalog": "catalog/train", "report": "report"}.get(name, f"evaluations/{name}")
    about = {"name": name, "key": f"{name}-0123", "state": state, "reason": None, "attempt": 1, "priority": 0}
    held = {"needs": [], "started": None, "ended": None, "seconds": 0.0, "cpus": 2.0, "gpus": 0.0}
    return about | held | {"output": output, "log": None, "progress": None} | changes


def a_run_under_way(uri: str) -> FollowedRun:
    """A pretraining at step 120 of 280 after one failure, an evaluation that waits for it, and a driver."""
    run = FollowedRun(uri)
    run.write_config("finetune")
    run.write_steps(
        entry("catalog", "done", seconds=1.5, log="logs/catalog.log"),
        entry(
            "pretrain",
            "running",
            attempt=2,
            seconds=61.0,
            log="logs/pretrain.log",
            progress={"step": 120, "total_steps": 280, "loss": 0.41234, "eta_seconds": 95.0},
        ),
        entry(
            "finetune-random", "failed", attempt=3, seconds=4.0, reason="MemoryError: [cuda] out of memory"
        ),
        entry("finetune-pretrained"),
    )
    run.write("catalog/train/DONE.json", {"state": "done", "seconds": 1.5, "summary": {"num_samples": 512}})
    run.write_driver()
    return run
