"""A run small enough for a test, started as a user starts it: in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import yaml

ROOT = Path(__file__).parents[2]
CATALOG = "drawn://moving_clips?samples=21&seed=0"
TRAIN = {
    "length": "12 steps",
    "warmup": "2 steps",
    "global_batch": 8,
    "micro_batch": 4,
    "optim": {"base_lr": 0.032},
}
EVALUATION = {
    "augment": {"crop": "center", "flip": False},
    "train": TRAIN | {"length": "3 steps", "warmup": "0 steps"},
}


def recipe(path: Path, storage: str, **changes) -> str:
    """Write a YAML recipe of twelve steps on two ranks of ZeRO-1; returns its path."""
    content = {
        "name": "small",
        "storage": storage,
        "input": {"frames": 4, "frame_stride": 2, "height": 32, "width": 32},
        "model": {"size": "videomae_micro"},
        "mask": {"kind": "tube", "ratio": 0.75},
        "data": {"catalog": CATALOG, "cpus_per_task": 0.5},
        "augment": {"crop": "multi_scale", "flip": True},
        "train": TRAIN,
        "resources": {"workers": 2},
        "checkpoint": {"every": "4 steps", "keep": 1},
        "log": {"every": 2, "ledger": True},
    } | changes
    path.write_text(yaml.safe_dump(content))
    return str(path)


def start(
    recipe_file: str, home: Path, *, output: int | IO[str] = subprocess.PIPE, **env: str
) -> subprocess.Popen[str]:
    """`mae-dist run` in the recipe's folder, in a process group of its own, with a private home."""
    home.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT)} | env
    return subprocess.Popen(
        [sys.executable, "-m", "mae_dist.cli.main", "run", recipe_file],
        cwd=Path(recipe_file).parent,
        env=environment,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(recipe_file: str, home: Path, **env: str) -> str:
    """Run to the end; returns what it printed, asserts that it succeeded."""
    process = start(recipe_file, home, **env)
    try:
        output, _ = process.communicate(timeout=900)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def run_directory(storage: Path) -> Path:
    """The one run directory under a local storage folder."""
    (found,) = storage.glob("small-*")
    return found
