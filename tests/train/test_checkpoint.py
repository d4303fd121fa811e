"""A checkpoint exists whole or not at all, and what is damaged is never read."""

from __future__ import annotations

import threading

import pytest
import torch

from mae_dist import storage
from mae_dist.train import checkpoint
from mae_dist.train.checkpoint import Checkpointer, CheckpointError, Progress
from mae_dist.train.engine import FullState


class FakeEngine:
    """Holds one parameter of eight values, of which each of two ranks saves a half."""

    def __init__(self, rank: int, value: float) -> None:
        self.rank, self.value = rank, value
        self.loaded: torch.Tensor | None = None

    def fragments(self):
        return {f"weight/{4 * self.rank}/w": torch.full((4,), self.value + self.rank)}

    def load(self, state: FullState, *, num_updates: int) -> None:
        self.loaded = state.flat("weight", "w", 8)


def save(folder: str, step: int, *, attempt: str = "a", ranks: tuple[int, ...] = (0, 1), keep: int = 2):
    savers = [Checkpointer(folder, rank=rank, world=2, attempt=attempt, keep=keep) for rank in ranks]
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


def test_a_checkpoint_is_invisible_until_the_last_rank_has_written(folder):
    (rank_0,) = save(folder, 10, ranks=(0,))
    assert checkpoint.newest_intact(folder) is None
    (rank_1,) = save(folder, 10, ranks=(1,))
    rank_1.wait()
    rank_0.wait()
    assert checkpoint.newest_intact(folder) == 10


def test_parts_left_by_an_interrupted_attempt_do_not_complete_a_new_one(folder):
    save(folder, 10, attempt="killed", ranks=(1,))[0].wait()
    (rank_0,) = save(folder, 10, attempt="second", ranks=(0,))
    published = threading.Event()
    threading.Thread(target=lambda: (rank_0.wait(), published.set()), daemon=True).start()
    assert not published.wait(0.5)
    save(folder, 10, attempt="second", ranks=(1,))[0].wait()
    assert published.wait(10)


def test_only_the_newest_are_kept(folder):
    for step in (10, 20, 30):
        save_whole(folder, step, keep=2)
    assert checkpoint.complete_steps(folder) == [30, 20]
    assert storage.list_dir(folder) == ["step-000000020", "step-000000030"]


@pytest.mark.parametrize("name", ["rank-00000.safetensors", "rank-00001.safetensors", "manifest.json"])
def test_one_flipped_bit_sends_the_reader_to_the_checkpoint_before(name, tmp_path):
    folder = str(tmp_path)
    for step in (10, 20):
        save_whole(folder, step)
    file = tmp_path / "step-000000020" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert checkpoint.newest_intact(folder) == 10
    with pytest.raises(CheckpointError, match=r"step-000000020.*does not match"):
        checkpoint.load(folder, 20, FakeEngine(0, 0.0))


def test_a_save_that_cannot_be_written_is_told_at_the_next_save(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    (saver,) = save(str(blocked / "checkpoints"), 10, ranks=(0,))
    with pytest.raises(CheckpointError, match=r"saving to .*checkpoints failed"):
        saver.wait()


def test_missing_pieces_of_a_parameter_are_named():
    state = FullState({"weight/0/w": torch.zeros(3), "weight/5/w": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"saved state of w \(weight\) covers 3 of 8 values"):
        state.flat("weight", "w", 8)
