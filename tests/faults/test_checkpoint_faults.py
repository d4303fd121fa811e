"""Whatever happens while a checkpoint is written, and whatever bit flips later, a whole one is found."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from mae_dist import storage
from mae_dist.storage import StorageError, local
from mae_dist.storage.fence import Fence
from mae_dist.train import checkpoint
from mae_dist.train.checkpoint import Checkpointer, CheckpointError, Progress
from mae_dist.train.checkpoint.layout import Manifest, marker_of

CHUNK_BYTES = 12
"""A file is torn after so many bytes, and after every multiple of it."""
DIED = 77

WORLD = 2
ROOT = Path(__file__).parents[2]


class HalfEngine:
    """One parameter of 256 values, all equal to the step, of which each of two ranks saves a half."""

    def __init__(self, rank: int, value: float) -> None:
        self.rank, self.value = rank, value
        self.loaded: list[float] = []

    def fragments(self):
        return {f"weight/{128 * self.rank}/w": torch.full((128,), self.value)}

    def load(self, state, *, num_updates):
        self.loaded = state.flat("weight", "w", 256).unique().tolist()


def save(folder: Path, step: int, *, attempt: str, keep: int = 2, fence: Fence | None = None) -> None:
    savers = [
        Checkpointer(str(folder), rank=rank, world=WORLD, attempt=attempt, keep=keep, fence=fence)
        for rank in range(WORLD)
    ]
    for rank in reversed(range(WORLD)):  # rank 0 last: it publishes, and then nothing is in the air any more
        savers[rank].save(HalfEngine(rank, float(step)), Progress(step=step, samples=step))
        savers[rank].wait()


def restore(folder: Path) -> int:
    """Step of the checkpoint that a new worker group would go on from; asserts that it is that state."""
    while (step := checkpoint.newest(str(folder))) is not None:
        engine = HalfEngine(0, 0.0)
        try:
            checkpoint.load(str(folder), step, engine)
        except CheckpointError:
            continue
        assert engine.loaded == [float(step)]
        return step
    raise AssertionError("no checkpoint is left")


class Disk:
    """Stands between storage and the disk: counts every change, and calls `at_point` before each."""

    def __init__(self, at_point) -> None:
        self.at_point = at_point

    def install(self, patch) -> None:
        for owner, name in [
            (os, "fsync"),
            (os, "link"),
            (os, "unlink"),
            (os, "rmdir"),
            (Path, "replace"),
            (Path, "mkdir"),
        ]:
            patch(owner, name, self._counted(getattr(owner, name)))
        original = Path.open

        def open_slowly(path, mode="r", **options):
            file = original(path, mode, **options)
            return file if "r" in mode else SlowFile(file, self)

        patch(Path, "open", open_slowly)

    def _counted(self, function):
        def counted(*arguments, **options):
            self.at_point()
            return function(*arguments, **options)

        return counted


class SlowFile:
    """A file whose every few bytes reach the disk for themselves."""

    def __init__(self, file, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.close()

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK_BYTES):
            self._disk.at_point()
            self._file.write(data[start : start + CHUNK_BYTES])
            self._file.flush()

    def __getattr__(self, name):
        return getattr(self._file, name)


def driver(run: Path, number: int) -> Fence:
    """The driver of this number, who has taken over."""
    fence = Fence(str(run / "drivers"), number)
    assert storage.create_exclusive(fence.file, b"{}")
    fence.settle()
    return fence


def save_and_die(run: Path, *, point: int | None) -> int:
    """Save step 20 in a child that ends without a word before change number `point` of the disk.

    Returns how many changes it made. None: it may finish.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def at_point() -> None:
            nonlocal count
            if count == point:
                os._exit(DIED)
            count += 1

        try:
            Disk(at_point).install(setattr)
            fence = Fence(str(run / "drivers"), 1)
            save(run / "checkpoints", 20, attempt="second", keep=1, fence=fence)
            os.write(writer, str(count).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        made = answer.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (0 if point is None else DIED)
    return int(made or "0")


def crash_everywhere(place: Path) -> list[int]:
    """Crash before each change of a save; the steps that the next driver found, one per crash."""
    os.fsync = lambda _: None  # processes end here, no computer does; it is still a point to crash at
    save(place / "first" / "checkpoints", 10, attempt="first", fence=driver(place / "first", 1))
    shutil.copytree(place / "first", place / "counted")
    found = []
    for point in range(save_and_die(place / "counted", point=None)):
        run = place / f"died-{point}"
        folder = run / "checkpoints"
        shutil.copytree(place / "first", run)
        save_and_die(run, point=point)
        fence = driver(run, 2)
        found.append(restore(folder))
        save(folder, 30, attempt="third", keep=1, fence=fence)
        assert restore(folder) == 30
        assert [file.name for file in folder.iterdir()] == ["step-000000030"]
        assert storage.list_dir(fence.uri) == ["000001.json", "000002.json", "000002.settled"]
        shutil.rmtree(run)
    return found


@pytest.mark.slow
def test_a_crash_at_any_write_of_a_save_leaves_a_whole_checkpoint_and_the_next_save_succeeds(tmp_path):
    """In a process of its own: this one may have threads, whose locks no forked child would ever get."""
    code = (
        "import json, sys; from pathlib import Path\n"
        "from tests.faults.test_checkpoint_faults import crash_everywhere\n"
        "print(json.dumps(crash_everywhere(Path(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) >= 200
    # Once the new one is visible it stays so; both sides of that moment were tried.
    assert found == sorted(found)
    assert set(found) == {10, 20}


FILES = [
    "*-rank-00000-000.safetensors",
    "*-rank-00001-000.safetensors",
    "*-rank-0000?.json",
    "*-manifest.json",
]


@pytest.mark.parametrize("pattern", [*FILES, "COMPLETE"])
def test_one_flipped_bit_anywhere_sends_the_reader_to_the_checkpoint_before(pattern, tmp_path):
    for step in (10, 20):
        save(tmp_path / "whole", step, attempt="a")
    file = next((tmp_path / "whole" / "step-000000020").glob(pattern)).relative_to(tmp_path / "whole")
    data = (tmp_path / "whole" / file).read_bytes()
    for bit in range(0, 8 * len(data), max(1, 8 * len(data) // 61)):
        folder = tmp_path / f"flipped-{bit}"
        shutil.copytree(tmp_path / "whole", folder)
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / file).write_bytes(flipped)
        assert restore(folder) == 10, f"bit {bit} of {file}"


def test_a_damaged_checkpoint_says_why_it_was_set_aside_and_is_written_anew(tmp_path):
    for step in (10, 20):
        save(tmp_path, step, attempt="a")
    next(tmp_path.glob("step-000000020/*.safetensors")).write_bytes(b"gone")
    assert restore(tmp_path) == 10
    assert "does not match its digest" in (tmp_path / "step-000000020" / "DAMAGED.json").read_text()
    save(tmp_path, 20, attempt="b")
    assert restore(tmp_path) == 20
    assert not (tmp_path / "step-000000020" / "DAMAGED.json").exists()


def test_a_checkpoint_with_a_damaged_marker_is_replaced_by_the_next_save_of_its_step(tmp_path):
    for step in (10, 20):
        save(tmp_path, step, attempt="a")
    (tmp_path / "step-000000020" / "COMPLETE").write_bytes(b"?")
    assert restore(tmp_path) == 10
    save(tmp_path, 20, attempt="b")
    assert restore(tmp_path) == 20


@pytest.mark.parametrize("room_bytes", [0, 100, 500, 1000])
def test_a_full_disk_is_told_at_once_and_leaves_the_old_checkpoint(room_bytes, tmp_path, monkeypatch):
    save(tmp_path, 10, attempt="first")
    left = room_bytes

    def full() -> None:
        nonlocal left
        left -= CHUNK_BYTES
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        Disk(full).install(patched.setattr)
        saver = Checkpointer(str(tmp_path), rank=0, world=1, attempt="second", keep=1)
        saver.save(HalfEngine(0, 20.0), Progress(step=20))
        assert saver._thread is not None
        saver._thread.join(5)
        with pytest.raises(
            CheckpointError, match=r"saving to .* failed: .*No space left on device"
        ) as caught:
            saver.check()
    assert isinstance(caught.value.__cause__, StorageError)
    assert restore(tmp_path) == 10
    save(tmp_path, 20, attempt="third")
    assert restore(tmp_path) == 20


LARGEST_FILE_BYTES = 400
"""Below the size of a rank's tensors, above that of the other files."""


def save_with_little_room(folder: str) -> None:
    """Prints how a save ends, in seconds, where the system lets no file grow beyond a few hundred bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE_BYTES, LARGEST_FILE_BYTES))
    saver = Checkpointer(folder, rank=0, world=1, attempt="second", keep=1)
    began = time.monotonic()
    saver.save(HalfEngine(0, 20.0), Progress(step=20))
    try:
        saver.wait()
    except CheckpointError as error:
        cause = type(error.__cause__).__name__
        sys.stdout.write(json.dumps([time.monotonic() - began, cause, str(error)]))


@pytest.mark.slow
def test_a_write_that_the_system_itself_refuses_is_told_within_five_seconds(tmp_path):
    """A limit of the kernel, in a process of its own: unlike a small disk it needs no rights."""
    save(tmp_path, 10, attempt="first")
    code = (
        "import sys; from tests.faults.test_checkpoint_faults import save_with_little_room\n"
        "save_with_little_room(sys.argv[1])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    seconds, cause, message = json.loads(done.stdout)
    assert seconds < 5
    assert cause == "StorageError"
    assert re.search(r"saving to .* failed: .*: cannot write: File too large", message)
    assert restore(tmp_path) == 10
    save(tmp_path, 20, attempt="third")
    assert restore(tmp_path) == 20


def test_a_file_that_is_still_being_written_is_never_listed(tmp_path):
    (tmp_path / f"{local.PARTIAL}0").write_bytes(b"half")
    assert checkpoint.complete_steps(str(tmp_path)) == []


class Bomb:
    """Unpickling it would create a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def test_a_pickle_in_place_of_a_shard_is_refused_unopened_even_if_every_digest_matches(tmp_path):
    """Who can write into the run directory can make digests agree; code is not run even then."""
    save(tmp_path, 10, attempt="a")
    folder = tmp_path / "step-000000010"
    torch.save({"weight/0/w": Bomb(tmp_path / "fired")}, folder / "a-rank-00000-000.safetensors")
    files = {
        file.name: checkpoint.layout.sha256(file.read_bytes())
        for file in folder.iterdir()
        if file.name.startswith("a-rank-")
    }
    manifest = Manifest(progress=Progress(step=10), world=WORLD, attempt="a", files=files).to_bytes()
    (folder / "a-manifest.json").write_bytes(manifest)
    (folder / "COMPLETE").write_bytes(marker_of("a", manifest))
    with pytest.raises(CheckpointError, match=r"rank-00000-000\.safetensors is not a file of tensors"):
        checkpoint.load(str(tmp_path), 10, HalfEngine(0, 0.0))
    assert not (tmp_path / "fired").exists()


@pytest.mark.parametrize("is_listed", [False, True])
def test_a_pickled_optimizer_shard_beside_the_tensors_is_never_opened(is_listed, tmp_path, monkeypatch):
    """As DeepSpeed writes them, with a digest in the manifest that agrees or without any."""
    save(tmp_path, 10, attempt="a")
    folder = tmp_path / "step-000000010"
    name = "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    torch.save({"optimizer_state_dict": Bomb(tmp_path / "fired")}, folder / name)
    if is_listed:
        found = checkpoint.read_manifest(str(tmp_path), 10)
        digest = checkpoint.layout.sha256((folder / name).read_bytes())
        manifest = replace(found, files=dict(found.files) | {name: digest}).to_bytes()
        (folder / "a-manifest.json").write_bytes(manifest)
        (folder / "COMPLETE").write_bytes(marker_of("a", manifest))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    assert restore(tmp_path) == 10
    assert not (tmp_path / "fired").exists()


def test_a_shard_of_another_run_is_refused_because_its_digest_is_another(tmp_path):
    save(tmp_path, 10, attempt="a")
    foreign = safetensors.torch.save({"weight/0/w": torch.full((128,), 666.0)})
    (tmp_path / "step-000000010" / "a-rank-00000-000.safetensors").write_bytes(foreign)
    with pytest.raises(CheckpointError, match="does not match its digest in the manifest"):
        checkpoint.load(str(tmp_path), 10, HalfEngine(0, 0.0))
