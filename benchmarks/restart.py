"""From SIGKILL of a worker to the next step: how long a training stands still when one of its processes dies.

A small pretraining on two workers is started as a user starts it (`mae-dist run`, a Ray of its own, drawn
clips); one worker after another is killed with SIGKILL, at a random moment, and the time taken until the new
worker group has made its first step. In it: noticing, ending the group, starting processes and importing,
connecting the ranks, opening the checkpoint and the stream, the first batch, the first step.

    python benchmarks/restart.py [--kills 5] [--engine deepspeed] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

GOAL_SECONDS = 8.0
DEADLINE_SECONDS = 240.0
ROOT = Path(__file__).parents[1]


def recipe(folder: Path, engine: str) -> Path:
    """A pretraining that lasts longer than the measurement and logs every step."""
    content = {
        "name": "restart",
        "storage": str(folder / "runs"),
        "input": {"frames": 4, "frame_stride": 2, "height": 32, "width": 32},
        "model": {"size": "videomae_micro"},
        "mask": {"kind": "tube", "ratio": 0.75},
        "data": {"catalog": "drawn://moving_clips?samples=64&seed=0", "cpus_per_task": 0.5},
        "augment": {"crop": "multi_scale", "flip": True},
        "train": {
            "length": "1000000 steps",
            "warmup": "2 steps",
            "global_batch": 8,
            "micro_batch": 4,
            "optim": {"base_lr": 0.001},
        },
        "resources": {"workers": 2, "engine": engine, "max_failures": 1000},
        "checkpoint": {"every": "20 steps", "keep": 1},
        "log": {"every": 1},
    }
    path = folder / "restart.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def start(path: Path) -> subprocess.Popen[bytes]:
    """`mae-dist run` with a private home, and without what the caller's environment says about Ray."""
    home = path.parent / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    log = open(path.parent / "output.txt", "wb")  # noqa: SIM115  (the process keeps it)
    command = [sys.executable, "-m", "mae_dist.cli.main", "run", str(path)]
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=path.parent)


def progress(folder: Path) -> tuple[float, dict[str, Any]]:
    """When the newest step was written down, and its line; (0, {}) before the first one."""
    for file in folder.glob("runs/restart-*/progress.json"):
        return file.stat().st_mtime, json.loads(file.read_text())
    return 0.0, {}


def wait_for_steps(
    folder: Path, job: subprocess.Popen[bytes], *, after: float, attempt_before: float
) -> float:
    """When the first step after the moment `after` was made by a worker group younger than the one before.

    `attempt_before` is the age of the old group then; raises RuntimeError if there is none in time.
    """
    while time.time() < after + DEADLINE_SECONDS:
        when, line = progress(folder)
        if when > after and line["seconds"] < attempt_before:
            # The step that was seen may be the second or third one.
            return when - line["seconds"] if line["seconds"] < 1 else when
        if job.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError((folder / "output.txt").read_text())


def workers(job: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes of the two ranks."""
    children = psutil.Process(job.pid).children(recursive=True)
    return [p for p in children if any("RayTrainWorker" in word for word in p.cmdline()[:1])]


def measure(folder: Path, *, kills: int, engine: str, rng: random.Random) -> list[dict[str, float]]:
    """Seconds from each kill to the next step, with the machine's load at that moment."""
    job = start(recipe(folder, engine))
    found = []
    try:
        wait_for_steps(folder, job, after=time.time(), attempt_before=float("inf"))
        for _ in range(kills):
            time.sleep(rng.uniform(2, 5))
            victim = rng.choice(workers(job))
            load, age = os.getloadavg()[0], progress(folder)[1]["seconds"]
            killed = time.time()
            victim.send_signal(signal.SIGKILL)
            stepped = wait_for_steps(folder, job, after=killed, attempt_before=age)
            found.append({"seconds": stepped - killed, "load": load})
    finally:
        end(job)
    return found


def end(job: subprocess.Popen[bytes]) -> None:
    """Kill the job with all its processes: there is nothing to keep."""
    tree = [*psutil.Process(job.pid).children(recursive=True), job]
    for process in tree:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    job.wait()


def main() -> None:
    """Kill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--engine", choices=["deepspeed", "torch"], default="deepspeed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--json", action="store_true", help="print the claim as JSON")
    parser.add_argument("--folder", type=Path, help="keep the run's files there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(
            arguments.folder or Path(temporary),
            kills=arguments.kills,
            engine=arguments.engine,
            rng=random.Random(arguments.seed),
        )
    seconds = [kill["seconds"] for kill in found]
    median = statistics.median(seconds)
    what = f"seconds from SIGKILL of a worker to the next step, median of {len(found)} ({arguments.engine})"
    claim = {"what": what, "measured": round(median, 2), "goal": GOAL_SECONDS, "met": median <= GOAL_SECONDS}
    if arguments.json:
        print(json.dumps({"claims": [claim], "kills": found}, indent=1))
        return
    for kill in found:
        print(f"{kill['seconds']:.2f} s  (load {kill['load']:.1f})")
    print(f"median {median:.2f} s, longest {max(seconds):.2f} s (goal: median {GOAL_SECONDS:.0f} s at most)")


if __name__ == "__main__":
    main()
