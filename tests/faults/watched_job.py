"""A training under test: started as a user starts it, watched through what it writes, hurt on purpose."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 300.0
"""For anything that is waited for; a busy machine is slow."""
POLL_SECONDS = 0.02
TAIL_BYTES = 4096
MICRO_BATCH = 2
GLOBAL_BATCH = 8
BLOCKS_PER_STEP = GLOBAL_BATCH // MICRO_BATCH


def recipe(*, steps: int, every: int) -> dict[str, Any]:
    """Two ranks of ZeRO-1, which log each step and save every so many; four ranks find room, too."""
    return {
        "name": "small",
        "input": {"frames": 4, "frame_stride": 2, "height": 32, "width": 32},
        "model": {"size": "videomae_micro"},
        "mask": {"kind": "tube", "ratio": 0.75},
        "data": {"catalog": "drawn://moving_clips?samples=21&seed=0", "cpus_per_task": 0.5},
        "augment": {"crop": "multi_scale", "flip": True},
        "train": {
            "length": f"{steps} steps",
            "warmup": "4 steps",
            "global_batch": GLOBAL_BATCH,
            "micro_batch": MICRO_BATCH,
            "optim": {"base_lr": 0.032},
        },
        "resources": {"workers": 2, "cpus_per_worker": 0.5, "max_failures": 1000},
        "checkpoint": {"every": f"{every} steps", "keep": 2},
        "log": {"every": 1, "ledger": True},
    }


class JobError(AssertionError):
    """What was waited for did not happen; says what the job printed last."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The metrics as they were at some moment, and the worker groups that had received samples."""

    inode: int
    lines: frozenset[bytes]
    groups: frozenset[str]


class WatchedJob:
    """`mae-dist run` in `folder`, with a home and a Ray of its own.

    The folder is the run: started again, it goes on. `plugins` is a folder with a sitecustomize.py for all of
    its processes.
    """

    def __init__(
        self, folder: Path, *, steps: int, every: int = 5, plugins: Path | None = None, **changes: Any
    ) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.num_starts = 0
        self._recipe = folder / "small.yaml"
        content = recipe(steps=steps, every=every) | {"storage": str(folder / "runs")} | changes
        self._recipe.write_text(yaml.safe_dump(content))
        self._path = os.pathsep.join(str(place) for place in (plugins, ROOT) if place is not None)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def run(self) -> Path:
        """The run directory, once there is one."""
        (found,) = (self.folder / "runs").glob("small-*")
        return found

    @property
    def output(self) -> str:
        """What the last start has printed."""
        return (self.folder / f"output-{self.num_starts}.txt").read_text(errors="replace")

    def start(self, *settings: str) -> None:
        """The same command as ever, with these `--set`."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))
        }
        self.num_starts += 1
        command = [sys.executable, "-m", "mae_dist.cli.main", "run", str(self._recipe)]
        for setting in settings:
            command += ["--set", setting]
        with (self.folder / f"output-{self.num_starts}.txt").open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment | {"HOME": str(self.home), "PYTHONPATH": self._path},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def exit_status(self) -> int | None:
        """Of the last start; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def finish(self, *, seconds: float = DEADLINE_SECONDS) -> None:
        """Let it run to its end; raises JobError if that is no success."""
        assert self._process is not None
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self._error(f"did not end within {seconds:g} s") from None
        if status != 0:
            raise self._error(f"ended with status {status}")

    def wait_for(self, what: str, happened: Callable[[], Any], *, poll: float = POLL_SECONDS) -> Any:
        """What `happened` returns as soon as it is true; raises JobError where the job ends before."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            status = self.exit_status()
            if found := happened():
                return found
            if status is not None:
                raise self._error(f"ended with status {status} before {what}")
            if time.monotonic() > deadline:
                raise self._error(f"went on for {DEADLINE_SECONDS:g} s without {what}")
            time.sleep(poll)

    # What it has done.

    def step(self) -> int:
        """The last step that was logged, 0 if none."""
        for metrics in (self.folder / "runs").glob("small-*/metrics.jsonl"):
            lines = _whole_lines(metrics, tail=TAIL_BYTES)
            return json.loads(lines[-1])["step"] if lines else 0
        return 0

    def reached(self, step: int) -> Callable[[], bool]:
        """Whether a step has been logged."""
        return lambda: self.step() >= step

    def mark(self) -> Mark:
        """What has been logged by now."""
        metrics = self.run / "metrics.jsonl"
        if not metrics.exists():
            return Mark(0, frozenset(), self._groups())
        return Mark(metrics.stat().st_ino, frozenset(_whole_lines(metrics)), self._groups())

    def stepped_since(self, mark: Mark) -> bool:
        """Whether a worker group that came up after the mark has logged a step.

        It writes the file anew, without the steps that it repeats; but so does a save of the one before.
        """
        if self._groups() <= mark.groups:
            return False
        metrics = self.run / "metrics.jsonl"
        try:
            if metrics.stat().st_ino == mark.inode:
                return False
            lines = _whole_lines(metrics, tail=TAIL_BYTES)
        except FileNotFoundError:
            return False
        return bool(lines) and lines[-1] not in mark.lines

    def whole_checkpoints(self) -> list[Path]:
        """Folders of the published ones, oldest first."""
        return sorted(marker.parent for marker in self.run.glob("checkpoints/step-*/COMPLETE"))

    def save_under_way(self) -> Path | None:
        """The folder of a checkpoint that has files and no marker."""
        places = sorted((self.folder / "runs").glob("small-*/checkpoints"))
        for folder in sorted(places[0].iterdir(), reverse=True)[:1] if places else ():
            with contextlib.suppress(OSError):  # deleted meanwhile
                if os.listdir(folder) and not (folder / "COMPLETE").exists():
                    return folder
        return None

    # What is done to it.

    def processes(self) -> list[psutil.Process]:
        """The driver and all that it has started, wherever in the tree they now are."""
        return list(_living_in(self.home))

    def workers(self) -> list[psutil.Process]:
        """The processes of the ranks, oldest first."""
        found = []
        for process in psutil.Process(self._pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "RayTrainWorker" in " ".join(process.cmdline()):
                    found.append(process)
        return sorted(found, key=lambda process: (process.create_time(), process.pid))

    def new_workers(self, *, known: Container[int] = ()) -> list[psutil.Process]:
        """The two ranks of the next worker group, as soon as they are there; it has no process of `known`."""

        def found() -> list[psutil.Process]:
            workers = [worker for worker in self.workers() if worker.pid not in known]
            return workers if len(workers) == 2 else []

        return self.wait_for("a new worker group", found)

    def kill_tree(self) -> None:
        """SIGKILL for the driver, Ray and all workers; returns when the last one is gone."""
        assert self._process is not None
        self._process.kill()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while left := self.processes():
            assert time.monotonic() < deadline, left
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=5)
        self._process.wait()

    def terminate(self, *, seconds: float = DEADLINE_SECONDS) -> int:
        """SIGTERM for the driver; returns the exit status that it ends with."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(seconds)

    def close(self) -> None:
        """End whatever is left."""
        if self._process is not None:
            self.kill_tree()

    def __enter__(self) -> WatchedJob:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _groups(self) -> frozenset[str]:
        return frozenset(file.name.split("-rank-")[0] for file in self.run.glob("ledger/*"))

    @property
    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _error(self, message: str) -> JobError:
        printed = self.output[-6000:]
        traces = [path.read_text()[-3000:] for path in (self.folder / "runs").glob("*/traceback.txt")]
        return JobError("\n".join([f"the job {message}; it printed", printed, *traces]))


def _whole_lines(path: Path, *, tail: int | None = None) -> list[bytes]:
    """The lines of a file that are whole; of its last `tail` bytes."""
    with path.open("rb") as file:
        start = 0
        if tail is not None:
            start = max(0, file.seek(0, os.SEEK_END) - tail)
            file.seek(start)
        lines = file.read().split(b"\n")[:-1]
    return lines[1:] if start else lines


def _living_in(home: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("HOME") == str(home):
                yield process
