"""A checkpoint exists whole or not at all, is read once, and the right ones are kept."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
import torch

from mae_dist import storage
from mae_dist.storage.fence import Fence
from mae_dist.train import checkpoint
from mae_dist.train.checkpoint import Checkpointer, CheckpointError, Progress, layout, saving
from mae_dist.train.engine import FullState
from tests.ranks import run_ranks


class FakeEngine:
    """Holds one parameter of eight values, of which each of two ranks saves a half."""

    def __init__(self, rank: int, value: float) -> None:
        self.rank, self.value = rank, value
        self.loaded: torch.Tensor | None = None

    def fragments(self):
        return {f"weight/{4 * self.rank}/w": torch.full((4,), self.value + self.rank)}

    def load(self, state: FullState, *, num_updates: int) -> None:
        self.loaded = state.flat("weight", "w", 8)
        self.num_updates = num_updates


def save(
    folder: str, step: int, *, attempt: str = "a", ranks: tuple[int, ...] = (0, 1), keep: int = 2, **more
):
    savers = [Checkpointer(folder, rank=rank, world=2, attempt=attempt, keep=keep, **more) for rank in ranks]
    for rank, saver in zip(ranks, savers, strict=True):
        saver.save(FakeEngine(rank, float(step)), Progress(step=step, samples=step * 8))
    return savers


def save_whole(folder: str, step: int, **options):
    for saver in save(folder, step, **options):
        saver.wait()


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    if request.param == "local":
        return str(tmp_path)
    return storage.join(request.getfixturevalue("s3_bucket"), "checkpoints")


def test_what_two_ranks_saved_is_put_together_by_one(folder):
    save_whole(folder, 10)
    engine = FakeEngine(0, 0.0)
    assert checkpoint.load(folder, 10, engine) == Progress(step=10, samples=80)
    assert engine.loaded is not None
    assert engine.loaded.tolist() == [10.0] * 4 + [11.0] * 4


def test_weights_are_taken_out_of_a_checkpoint_without_what_is_not_asked_for(folder):
    save_whole(folder, 10)
    state = checkpoint.read_weights(folder, 10, kind="weight")
    assert state.flat("weight", "w", 8).tolist() == [10.0] * 4 + [11.0] * 4
    assert checkpoint.read_weights(folder, 10, kind="ema").kinds == set()


def test_weights_of_a_checkpoint_that_is_gone_are_refused(folder):
    with pytest.raises(CheckpointError, match="step-000000010 is not a whole checkpoint"):
        checkpoint.read_weights(folder, 10, kind="weight")


def test_a_checkpoint_is_invisible_until_the_last_rank_has_written(folder):
    (rank_0,) = save(folder, 10, ranks=(0,))
    assert checkpoint.newest(folder) is None
    (rank_1,) = save(folder, 10, ranks=(1,))
    rank_1.wait()
    rank_0.wait()
    assert checkpoint.newest(folder) == 10


def test_parts_left_by_an_interrupted_attempt_do_not_complete_a_new_one(folder):
    save(folder, 10, attempt="killed", ranks=(1,))[0].wait()
    (rank_0,) = save(folder, 10, attempt="second", ranks=(0,))
    published = threading.Event()
    threading.Thread(target=lambda: (rank_0.wait(), published.set()), daemon=True).start()
    assert not published.wait(0.5)
    save(folder, 10, attempt="second", ranks=(1,))[0].wait()
    assert published.wait(10)
    assert all(
        name.startswith(("second", "COMPLETE")) for name in storage.list_dir(f"{folder}/step-000000010")
    )


def test_a_checkpoint_that_another_attempt_published_meanwhile_stays_as_it_is(folder):
    save_whole(folder, 10, attempt="first")
    before = storage.list_dir(f"{folder}/step-000000010")
    save_whole(folder, 10, attempt="second")
    assert storage.list_dir(f"{folder}/step-000000010") == before
    assert checkpoint.read_manifest(folder, 10).attempt == "first"


def test_a_driver_that_was_fenced_off_publishes_nothing(folder):
    drivers = storage.join(folder, "drivers")
    fence = Fence(drivers, 1)
    save_whole(folder, 10, fence=fence)
    storage.write_bytes(Fence(drivers, 2).file, b"")
    rank_0, rank_1 = save(folder, 20, fence=fence)
    rank_1.wait()
    with pytest.raises(CheckpointError, match=r"driver 2 has taken over from driver 1, which must not write"):
        rank_0.wait()
    assert checkpoint.newest(folder) == 10


def test_only_the_newest_are_kept(folder):
    for step in (10, 20, 30):
        save_whole(folder, step, keep=2)
    assert checkpoint.complete_steps(folder) == [30, 20]
    assert storage.list_dir(folder) == ["step-000000020", "step-000000030"]


@pytest.mark.parametrize(
    ("keep", "keep_every", "kept"),
    [(1, None, {70}), (2, None, {60, 70}), (1, 30, {30, 60, 70}), (2, 25, {30, 50, 60, 70})],
)
def test_the_first_checkpoint_of_every_period_stays_beside_the_newest(keep, keep_every, kept):
    steps: list[int] = []
    for step in range(10, 80, 10):
        steps = sorted(layout.kept_steps([*steps, step], keep=keep, keep_every=keep_every))
    assert set(steps) == kept


def test_what_an_interrupted_save_left_is_deleted_by_a_later_one(tmp_path):
    folder = str(tmp_path)
    save(folder, 10, attempt="killed", ranks=(1,))[0].wait()
    save_whole(folder, 20)
    assert storage.list_dir(folder) == ["step-000000020"]


def test_a_save_that_cannot_be_written_is_told_at_the_next_look(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    (saver,) = save(str(blocked / "checkpoints"), 10, ranks=(0,))
    with pytest.raises(CheckpointError, match=r"saving to .*checkpoints failed"):
        saver.wait()
    with pytest.raises(CheckpointError, match=r"saving to .*checkpoints failed"):
        saver.check()


def test_a_large_state_is_written_in_parts_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "PART_BYTES", 2000)

    class Wide(FakeEngine):
        def fragments(self):
            return {f"weight/0/{name}": torch.full((200,), float(ord(name))) for name in "abcde"}

        def load(self, state, *, num_updates):
            self.values = {name: state.flat("weight", name, 200) for name in "abcde"}

    saver = Checkpointer(str(tmp_path), rank=0, world=1, attempt="a", keep=1)
    saver.save(Wide(0, 0.0), Progress(step=1, samples=8))
    saver.wait()
    sizes = [f.stat().st_size for f in tmp_path.rglob("*.safetensors")]
    assert len(sizes) == 3
    assert max(sizes) < 2500
    engine = Wide(0, 0.0)
    checkpoint.load(str(tmp_path), 1, engine)
    assert {name: values.unique().tolist() for name, values in engine.values.items()} == {
        name: [float(ord(name))] for name in "abcde"
    }


def test_the_state_is_that_of_the_moment_of_the_save(tmp_path):
    """The engine goes on at once; what it changes then does not reach the files."""
    engine = FakeEngine(0, 1.0)
    live = torch.ones(8)
    engine.fragments = lambda: {"weight/0/w": live}
    saver = Checkpointer(str(tmp_path), rank=0, world=1, attempt="a", keep=9)
    for step in range(1, 6):
        saver.save(engine, Progress(step=step))
        live += 1
    saver.wait()
    for step in range(1, 6):
        checkpoint.load(str(tmp_path), step, engine)
        assert engine.loaded is not None
        assert engine.loaded.tolist() == [float(step)] * 8


def test_a_save_does_not_wait_for_the_other_ranks_files_of_the_save_before(tmp_path):
    (rank_0,) = save(str(tmp_path), 10, ranks=(0,))
    rank_0.save(FakeEngine(0, 20.0), Progress(step=20))
    for step in (10, 20):
        save(str(tmp_path), step, ranks=(1,))[0].wait()
    rank_0.wait()
    assert checkpoint.complete_steps(str(tmp_path)) == [20, 10]


def test_a_rank_that_fails_is_named_by_the_rank_that_waits_for_it(tmp_path, monkeypatch):
    (rank_1,) = save(str(tmp_path), 10, ranks=(1,))
    rank_1.wait()
    rank_1._give_up(layout.folder_of(str(tmp_path), 10), OSError("no such luck"))
    (rank_0,) = save(str(tmp_path), 10, ranks=(0,))
    with pytest.raises(CheckpointError, match="rank 1 could not write its part: no such luck"):
        rank_0.wait()


def test_a_rank_that_never_writes_ends_the_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "PUBLISH_DEADLINE_SECONDS", 0.1)
    (rank_0,) = save(str(tmp_path), 10, ranks=(0,))
    with pytest.raises(CheckpointError, match="rank 1 did not write its part in time"):
        rank_0.wait()


def test_every_file_is_read_once(tmp_path, monkeypatch):
    save_whole(str(tmp_path), 10)
    reads: Counter[str] = Counter()
    read_bytes = storage.read_bytes

    def counted(uri, **options):
        if "sha256" not in options:  # that reads by calling this again
            reads[uri.rpartition("/")[2]] += 1
        return read_bytes(uri, **options)

    monkeypatch.setattr(storage, "read_bytes", counted)
    step = checkpoint.newest(str(tmp_path))
    assert step == 10
    checkpoint.load(str(tmp_path), step, FakeEngine(0, 0.0))
    assert {name: times for name, times in reads.items() if name.endswith(".safetensors")} == {
        "a-rank-00000-000.safetensors": 1,
        "a-rank-00001-000.safetensors": 1,
    }


def load_on_rank(rank: int, folder: str) -> tuple[list[str], list[float] | str]:
    """Files this rank read, and what its engine got or why not."""
    read: list[str] = []
    read_bytes = storage.read_bytes

    def counted(uri, **options):
        if uri.endswith(".safetensors") and "sha256" not in options:
            read.append(uri.rpartition("/")[2])
        return read_bytes(uri, **options)

    storage.read_bytes = counted
    engine = FakeEngine(rank, 0.0)
    try:
        checkpoint.load(folder, 10, engine)
    except CheckpointError as error:
        return read, str(error)
    assert engine.loaded is not None
    return read, engine.loaded.tolist()


@pytest.mark.slow
def test_two_ranks_read_each_file_once_between_them_and_both_have_all(tmp_path):
    save_whole(str(tmp_path), 10)
    found = run_ranks(2, load_on_rank, str(tmp_path))
    assert [values for _, values in found] == [[10.0] * 4 + [11.0] * 4] * 2
    assert sorted(name for read, _ in found for name in read) == [
        "a-rank-00000-000.safetensors",
        "a-rank-00001-000.safetensors",
    ]


@pytest.mark.slow
def test_damage_that_one_rank_meets_is_told_by_both_and_sets_the_checkpoint_aside(tmp_path):
    save_whole(str(tmp_path), 5)
    save_whole(str(tmp_path), 10)
    file = tmp_path / "step-000000010" / "a-rank-00001-000.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    found = run_ranks(2, load_on_rank, str(tmp_path))
    assert [message.rpartition("/")[2] for _, message in found] == [
        "a-rank-00001-000.safetensors does not match its digest in the manifest"
    ] * 2
    assert checkpoint.newest(str(tmp_path)) == 5


def test_missing_pieces_of_a_parameter_are_named():
    state = FullState({"weight/0/w": torch.zeros(3), "weight/5/w": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"saved state of w \(weight\) covers 3 of 8 values"):
        state.flat("weight", "w", 8)
