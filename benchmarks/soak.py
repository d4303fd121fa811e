"""One training under a random fault every so many seconds, against the same training in peace.

A fault is one of FAULTS, drawn from the seed. Nothing is done by hand: where the job itself has died, the
same command is given again at once, as any supervisor does. The training is sized from a trial in peace so
that it would take the given minutes at a goodput of 70%, and faults go on until it ends. Goodput is what as
many steps take at the pace of the trial, on the same machine just before, over what they took now, from the
first step logged to the last. Only then comes the same training in peace, to compare the results with.
Writes benchmarks/soak/<date>.md; exit status 1 if the result differs.

    python -m benchmarks.soak [--minutes 20] [--every 30] [--seed 1] [--folder ...]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks import page
from tests.faults import run_files
from tests.faults.scenarios import flip_bit
from tests.faults.watched_job import Mark, WatchedJob

GOAL = 0.70
TRIAL_STEPS = 800
WARM_UP_STEPS = 50
CHECKPOINT_STEPS = 12
"""Between two checkpoints; about two seconds of work on two cores."""
POLL_SECONDS = 0.05


@dataclass(kw_only=True, slots=True)
class Soak:
    """What was done to the job and what came of it."""

    faults: Counter[str] = field(default_factory=Counter)
    seconds_to_next_step: list[float] = field(default_factory=list)
    """From a fault to the first step of the worker group that came up after it, for faults that no other one
    followed before that."""
    restarts: int = 0
    """How often the same command was given again."""
    seconds: float = 0.0
    """From the first step to the last."""


def signal_rank(job: WatchedJob, rng: random.Random, number: signal.Signals) -> bool:
    """Send a signal to one worker; False if there is none at the moment."""
    workers = job.workers()
    if workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            rng.choice(workers).send_signal(number)
    return bool(workers)


def kill_rank(job: WatchedJob, rng: random.Random) -> bool:
    """SIGKILL for one worker."""
    return signal_rank(job, rng, signal.SIGKILL)


def kill_tree(job: WatchedJob, rng: random.Random) -> bool:
    """SIGKILL for everything."""
    job.kill_tree()
    return True


def flip_a_bit(job: WatchedJob, rng: random.Random) -> bool:
    """One bit of the newest checkpoint, and SIGKILL for a worker, so that it is read."""
    # One that nothing lies behind would be the only one.
    if len(job.whole_checkpoints()) < 2 or not job.workers():
        return False
    with contextlib.suppress(FileNotFoundError, IndexError):  # deleted meanwhile: no longer the newest
        flip_bit(rng, job.whole_checkpoints()[-1])
    return kill_rank(job, rng)


def ask_a_rank_to_stop(job: WatchedJob, rng: random.Random) -> bool:
    """SIGTERM for one worker, as from a node that is about to go."""
    return signal_rank(job, rng, signal.SIGTERM)


def stop_rank(job: WatchedJob, rng: random.Random) -> bool:
    """SIGSTOP for one worker, for ever."""
    return signal_rank(job, rng, signal.SIGSTOP)


FAULTS: dict[str, Callable[[WatchedJob, random.Random], bool]] = {
    "SIGKILL of a rank": kill_rank,
    "SIGKILL of the whole tree": kill_tree,
    "SIGTERM of a rank": ask_a_rank_to_stop,
    "SIGSTOP of a rank": stop_rank,
    "a bit of the newest checkpoint flips, SIGKILL of a rank": flip_a_bit,
}
WATCH = {"step_seconds": 5.0, "first_step_seconds": 60.0}
"""Of the training under faults; by the first a worker that is stopped is found out."""


def soak(job: WatchedJob, *, steps: int, every: float, seed: int) -> Soak:
    """Run the job to its end under faults."""
    rng, done = random.Random(seed), Soak()
    hit: tuple[float, Mark] | None = None
    name: str | None = None
    first = last = due = 0.0
    job.start()
    while (status := job.exit_status()) != 0:
        now = time.monotonic()
        if status is not None:
            done.restarts += 1
            job.start()
        if not first and job.step() > 0:
            first, due = now, now + every
        if hit is not None and job.stepped_since(hit[1]):
            done.seconds_to_next_step.append(now - hit[0])
            hit = None
        if first and not last and job.step() == steps:
            last = now
        if first and not last and now > due:
            # What needs a worker waits for one, instead of leaving its turn to what does not.
            name = name or rng.choice(list(FAULTS))
            mark = job.mark()
            if FAULTS[name](job, rng):
                print(f"{now - first:5.0f} s, step {job.step()} of {steps}: {name}", flush=True)
                done.faults[name] += 1
                hit, due, name = (now, mark), now + every, None
        time.sleep(POLL_SECONDS)
    done.seconds = last - first
    return done


def seconds_per_step(run: Path) -> float:
    """The pace of an undisturbed run, its checkpoints included, once it has warmed up."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    seconds = [json.loads(line)["seconds"] for line in lines[WARM_UP_STEPS - 1 :]]
    return (seconds[-1] - seconds[0]) / (len(seconds) - 1)


def main() -> int:
    """Measure the peace, soak, compare, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--every", type=float, default=30, help="seconds between two faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the runs are left; a temporary one if not given")
    arguments = parser.parse_args()
    hardware = page.hardware()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no job is left behind
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        pace = seconds_per_step(in_peace(folder / "trial", steps=TRIAL_STEPS))
        steps = round(GOAL * 60 * arguments.minutes / pace)
        with WatchedJob(folder / "soaked", steps=steps, every=CHECKPOINT_STEPS, watch=WATCH) as job:
            done = soak(job, steps=steps, every=arguments.every, seed=arguments.seed)
        found = run_files.differences(job.run, in_peace(folder / "clean", steps=steps))
        goodput = (steps - 1) * pace / done.seconds
    text = f"# A training under a fault every {arguments.every:g} s, {page.today()}\n\n"
    text += f"Command: `{page.command('benchmarks.soak')}`. Hardware: {hardware}.\n"
    text += f"Two workers on CPUs with ZeRO-1, {steps:,} steps of {pace:.3f} s,\n"
    text += f"a checkpoint every {CHECKPOINT_STEPS}; watch.step_seconds={WATCH['step_seconds']:g},\n"
    text += "resources.max_failures beyond reach.\n\n"
    text += page.table(("", ""), rows(done, goodput, found))
    print(text, page.write("soak", text))
    return 1 if found else 0


def rows(done: Soak, goodput: float, found: list[str]) -> list[tuple[str, str]]:
    """Of the page's table."""
    waits = done.seconds_to_next_step
    kinds = "; ".join(f"{number} {name}" for name, number in sorted(done.faults.items()))
    met = "met" if goodput >= GOAL else "missed"
    told = f"{statistics.median(waits):.1f} s median, {max(waits):.1f} s most" if waits else "never measured"
    return [
        ("time under faults", f"{done.seconds / 60:.1f} min"),
        ("faults", f"{done.faults.total()}: {kinds}"),
        ("times that the same command was given again", str(done.restarts)),
        ("anything else done by hand", "nothing"),
        ("goodput", f"{goodput:.1%} (goal {GOAL:.0%}: {met})"),
        ("fault to next step", told),
        ("result", "; ".join(found) or "the same bits as in peace, every sample of every step once"),
    ]


def in_peace(folder: Path, *, steps: int) -> Path:
    """The run directory of a job that was let alone."""
    with WatchedJob(folder, steps=steps, every=CHECKPOINT_STEPS) as job:
        job.start()
        job.finish(seconds=7200)
    return job.run


if __name__ == "__main__":
    sys.exit(main())
