"""What is done to trainings, at moments drawn from a seed, and what was seen meanwhile.

Every scenario starts a job, hurts it, lets it end and returns what it measured; whether the result is that of
a run in peace is for `run_files.differences` to say.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults import run_files
from tests.faults.watched_job import BLOCKS_PER_STEP, WatchedJob

MOMENTS = ("step", "save", "step", "save", "start")
"""When a rank dies: in a step, inside a save, while a worker group comes up."""


@dataclass(kw_only=True, slots=True)
class Measured:
    """What a scenario did and saw."""

    faults: dict[str, int] = field(default_factory=dict)
    """How often, by kind."""
    seconds_to_next_step: list[float] = field(default_factory=list)
    """From a fault (of the whole tree: from the command given again) to the next step that was logged."""
    fell_back: list[str] = field(default_factory=list)
    """Damaged files after which training went on from the checkpoint before."""

    def count(self, kind: str) -> None:
        """One more fault of this kind."""
        self.faults[kind] = self.faults.get(kind, 0) + 1


def kill_ranks(job: WatchedJob, *, kills: int, steps: int, every: int, seed: int) -> Measured:
    """SIGKILL for a random rank at random moments of one run."""
    rng, measured = random.Random(seed), Measured()
    gone: set[int] = set()
    job.start()
    for number, after in enumerate(_moments(rng, kills=kills, steps=steps, every=every)):
        moment = MOMENTS[number % len(MOMENTS)]
        if moment == "start":
            # The group that replaces the last one that was killed.
            workers = job.new_workers(known=gone)
            _let_pass(rng.uniform(0, 4), job)
        else:
            job.wait_for(f"step {after}", job.reached(after))
            workers = job.workers()
        victim = rng.choice(workers)
        if moment == "save":
            folder: Path = job.wait_for("a save", job.save_under_way, poll=0.001)
            victim.kill()
            moment = "save" if not (folder / "COMPLETE").exists() else "step"
        else:
            if moment == "step":
                _let_pass(rng.uniform(0, 0.2), job)
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        killed, mark = time.monotonic(), job.mark()
        measured.count(moment)
        gone = {worker.pid for worker in workers}
        if MOMENTS[(number + 1) % len(MOMENTS)] != "start" or number + 1 == kills:
            job.wait_for("a step after a rank was killed", lambda mark=mark: job.stepped_since(mark))
            measured.seconds_to_next_step.append(time.monotonic() - killed)
    job.finish()
    return measured


def kill_trees(job: WatchedJob, *, kills: int, steps: int, every: int, seed: int) -> Measured:
    """SIGKILL for driver, Ray and workers at random moments; the same command is given again each time."""
    rng, measured = random.Random(seed), Measured()
    job.start()
    for after in _moments(rng, kills=kills, steps=steps, every=every):
        job.wait_for(f"step {after}", job.reached(after))
        job.wait_for("a checkpoint", job.whole_checkpoints)
        _let_pass(rng.uniform(0, 0.5), job)
        _restart(job, measured)
        measured.count("tree")
    job.finish()
    return measured


def change_sizes(job: WatchedJob, phases: Sequence[tuple[int, int]], *, steps: int) -> Measured:
    """Go on with other (workers, ZeRO stage) each time, after the whole tree was killed."""
    measured = Measured()
    job.start(*_size(*phases[0]))
    for number, phase in enumerate(phases[1:], start=1):
        after = number * steps // len(phases)
        job.wait_for(f"step {after}", job.reached(after))
        job.wait_for("a checkpoint", job.whole_checkpoints)
        _restart(job, measured, *_size(*phase))
        measured.count(f"to {phase[0]} workers, stage {phase[1]}")
    job.finish()
    return measured


def damage_checkpoints(job: WatchedJob, patterns: Sequence[str], *, steps: int, seed: int) -> Measured:
    """One bit of the newest checkpoint flips while nobody runs: in a file like each of `patterns` in turn."""
    rng, measured = random.Random(seed), Measured()
    job.start()
    for number, pattern in enumerate(patterns, start=1):
        after = number * steps // (len(patterns) + 1)
        job.wait_for(f"step {after}", job.reached(after))
        job.wait_for("a second checkpoint", lambda: len(job.whole_checkpoints()) >= 2)
        job.kill_tree()
        before, newest = job.whole_checkpoints()[-2:]
        file = flip_bit(rng, newest, pattern)
        mark = job.mark()
        job.start()
        job.wait_for("a step after a bit was flipped", lambda mark=mark: job.stepped_since(mark))
        measured.count(pattern)
        first = min(run_files.attempts(job.run)[-1])
        if first // BLOCKS_PER_STEP == int(before.name.removeprefix("step-")):
            measured.fell_back.append(file.name)
    job.finish()
    return measured


def kill_after_bad_batches(job: WatchedJob, *, after: Sequence[int]) -> Measured:
    """SIGKILL for the last worker when these steps are reached, in a job whose micro-batches go bad."""
    measured = Measured()
    job.start()
    for step in after:
        job.wait_for(f"step {step}", job.reached(step))
        job.workers()[-1].kill()
        killed, mark = time.monotonic(), job.mark()
        job.wait_for("a step after a rank was killed", lambda mark=mark: job.stepped_since(mark))
        measured.seconds_to_next_step.append(time.monotonic() - killed)
        measured.count("step")
    job.finish()
    return measured


def flip_bit(rng: random.Random, folder: Path, pattern: str = "*") -> Path:
    """Flip a random bit of a random file like `pattern`; returns the file."""
    file = rng.choice(sorted(folder.glob(pattern)))
    with file.open("r+b") as stream:
        bit = rng.randrange(8 * file.stat().st_size)
        stream.seek(bit // 8)
        [byte] = stream.read(1)
        stream.seek(bit // 8)
        stream.write(bytes([byte ^ 1 << bit % 8]))
    return file


def _restart(job: WatchedJob, measured: Measured, *settings: str) -> None:
    job.kill_tree()
    mark = job.mark()
    started = time.monotonic()
    job.start(*settings)
    job.wait_for("a step of the job run again", lambda: job.stepped_since(mark))
    measured.seconds_to_next_step.append(time.monotonic() - started)


def _moments(rng: random.Random, *, kills: int, steps: int, every: int) -> list[int]:
    """Steps after which something happens: none before the first checkpoint, none at the very end."""
    return sorted(rng.sample(range(every + 1, steps - 3 * every), kills))


def _size(workers: int, stage: int) -> tuple[str, str]:
    return f"resources.workers={workers}", f"resources.zero_stage={stage}"


def _let_pass(seconds: float, job: WatchedJob) -> None:
    """The moment of a fault is drawn in time too: a step or a start has no file for each of its parts."""
    until = time.monotonic() + seconds
    job.wait_for("the moment", lambda: time.monotonic() >= until)
