"""Trainings that are killed, resized, damaged and fed bad numbers, against the same training in peace.

The long version of tests/faults/test_training_faults.py, with real processes, fixed seeds and a small model.
Writes benchmarks/faults/<date>.md.

    python -m benchmarks.faults [--steps 300] [--kills 20] [--only ranks trees ...] [--folder ...]
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import page
from tests.faults import run_files, scenarios
from tests.faults.scenarios import Measured
from tests.faults.watched_job import BLOCKS_PER_STEP, WatchedJob

EVERY = 5
SEED = 1
SIZES = [(1, 0), (2, 1), (4, 2), (2, 3)]
"""(workers, ZeRO stage), one after the other."""
FILES = ["*.safetensors", "*-manifest.json", "*-rank-?????.json", "COMPLETE"]
PLUGINS = Path(scenarios.__file__).parent / "bad_batches"
NUM_BAD_BATCHES = 4
BAD_STEPS = 40
"""The bad micro-batches are among the first of them."""


class Row(NamedTuple):
    """Of the page's table, and whether what must hold does."""

    fault: str
    must_hold: str
    measured: str
    holds: bool


class Bench:
    """The runs of one call, in a folder each."""

    def __init__(self, folder: Path, *, steps: int, kills: int) -> None:
        self.folder, self.steps, self.kills = folder, steps, kills
        self._clean: WatchedJob | None = None

    @property
    def clean(self) -> WatchedJob:
        """The training in peace, made when it is first asked for."""
        if self._clean is None:
            self._clean = self._in_peace("clean")
        return self._clean

    def ranks(self) -> Row:
        """SIGKILL of one rank."""
        with self._job("ranks") as job:
            measured = scenarios.kill_ranks(job, kills=self.kills, steps=self.steps, every=EVERY, seed=SEED)
        found = self._differences(job)
        return Row(
            f"SIGKILL of a rank at {self.kills} random moments of one run",
            "same bits, every sample once",
            f"{self._same_bits(found)}; {_counted(measured)}; {_recovery(measured)}",
            not found,
        )

    def trees(self) -> Row:
        """SIGKILL of everything."""
        kills = max(1, self.kills // 6)
        with self._job("trees") as job:
            measured = scenarios.kill_trees(job, kills=kills, steps=self.steps, every=EVERY, seed=SEED)
        found = self._differences(job)
        return Row(
            f"SIGKILL of driver, Ray and workers {kills} times, the same command again",
            "the same",
            f"{self._same_bits(found)}; {_recovery(measured)}, from the command given again",
            not found,
        )

    def sizes(self) -> Row:
        """Another number of workers, another stage."""
        with self._job("sizes") as job:
            scenarios.change_sizes(job, SIZES, steps=self.steps)
        found = self._differences(job, tolerance=1e-6)
        most = run_files.largest_difference(job.run, self.clean.run)
        way = ", ".join(f"{workers} (ZeRO-{stage})" for workers, stage in SIZES)
        return Row(
            f"killed and resumed at other sizes: workers {way}",
            "same ids, losses within 1e-6",
            "; ".join(found) or f"same ids; largest relative difference of a loss {most:.1e}",
            not found,
        )

    def bits(self) -> Row:
        """One bit of the newest checkpoint."""
        with self._job("bits") as job:
            measured = scenarios.damage_checkpoints(job, FILES, steps=self.steps, seed=SEED)
        found = self._differences(job)
        return Row(
            "one bit of the newest checkpoint flips, in each kind of file",
            "falls back one checkpoint, same bits",
            f"{len(measured.fell_back)} of {len(FILES)} fell back; {self._same_bits(found)}",
            not found and len(measured.fell_back) == len(FILES),
        )

    def bad_batches(self) -> Row:
        """NaN on one rank."""
        peace = self._in_peace("bad-peace", steps=BAD_STEPS, plugins=PLUGINS)
        with self._job("bad-killed", steps=BAD_STEPS, plugins=PLUGINS) as job:
            scenarios.kill_after_bad_batches(job, after=[17, 28])
        found = run_files.differences(job.run, peace.run)
        named, again = ((run.run / "skipped.jsonl").read_text() for run in (peace, job))
        if named != again:
            found.append("other batches named")
        return Row(
            f"NaN of one rank in one step, and in three in a row; SIGKILL after both ({BAD_STEPS} steps)",
            "skipped, named, gone back; the same bits as without SIGKILL",
            "; ".join(found) or f"same bits; {len(named.splitlines())} micro-batches named",
            not found and len(named.splitlines()) == NUM_BAD_BATCHES,
        )

    def _job(self, name: str, **options: Any) -> WatchedJob:
        settings: dict[str, Any] = {"steps": self.steps, "every": EVERY}
        return WatchedJob(self.folder / name, **settings | options)

    def _in_peace(self, name: str, **options: Any) -> WatchedJob:
        with self._job(name, **options) as job:
            job.start()
            job.finish(seconds=7200)
        return job

    def _differences(self, job: WatchedJob, *, tolerance: float | None = None) -> list[str]:
        return run_files.differences(job.run, self.clean.run, tolerance=tolerance)

    def _same_bits(self, found: list[str]) -> str:
        return "; ".join(found) or f"same bits, {self.steps * BLOCKS_PER_STEP:,} micro-batches once each"


def _counted(measured: Measured) -> str:
    where = {"step": "in steps", "save": "inside saves", "start": "while a group came up"}
    return ", ".join(f"{number} {where[kind]}" for kind, number in measured.faults.items())


def _recovery(measured: Measured) -> str:
    seconds = measured.seconds_to_next_step
    return f"next step after {statistics.median(seconds):.1f} s (median), {max(seconds):.1f} s (most)"


CASES: dict[str, Callable[[Bench], Row]] = {
    case.__name__: case for case in (Bench.ranks, Bench.trees, Bench.sizes, Bench.bits, Bench.bad_batches)
}


def measure(bench: Bench, name: str) -> Row:
    """One row, printed as it comes."""
    started = time.monotonic()
    row = CASES[name](bench)
    print(f"{row.fault}: {row.measured} ({time.monotonic() - started:.0f} s)", flush=True)
    return row


def main() -> int:
    """Run the cases and write the page; 1 if a result differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=sorted(CASES), default=list(CASES))
    parser.add_argument("--folder", type=Path, help="where the runs are left; a temporary one if not given")
    arguments = parser.parse_args()
    hardware = page.hardware()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no job is left behind
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(arguments.folder or Path(temporary), steps=arguments.steps, kills=arguments.kills)
        for name in arguments.only:
            rows.append(measure(bench, name))
            # After each case: the whole takes long.
            print(page.write("faults", text(rows, hardware=hardware, steps=arguments.steps)), flush=True)
    return 0 if all(row.holds for row in rows) else 1


def text(rows: Sequence[Row], *, hardware: str, steps: int) -> str:
    """The page."""
    return (
        f"# What faults change in a training, {page.today()}\n\n"
        f"Command: `{page.command('benchmarks.faults')}`. Hardware: {hardware}.\n"
        f"Two workers on CPUs with ZeRO-1, {steps} steps, a checkpoint every {EVERY}.\n"
        "Compared with the same training in peace: each loss, the last checkpoint (optimiser included), the\n"
        "exported weights, and samples and digest of each micro-batch in the ledger.\n\n"
    ) + page.table(("fault", "must hold", "measured"), [row[:3] for row in rows])


if __name__ == "__main__":
    sys.exit(main())
