"""Micro-batches on their way to the loop: in order, counted, and never lost in a thread."""

from __future__ import annotations

import itertools
import json
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mae_dist.train import feed as feed_module
from mae_dist.train.feed import Feed, StreamError, digest

CPU = torch.device("cpu")
STATS = {
    "decodes": 2,
    "seconds": 0.5,
    "cpu_seconds": 0.25,
    "read_seconds": 0.125,
    "read_bytes": 1000,
    "fetched_bytes": 1250,
    "requests": 3,
    "retries": 1,
    "built_at": 0.0,
}


def row(block: int, **changed) -> dict[str, Any]:
    rng = np.random.default_rng(block)
    values = {
        "clips": rng.integers(0, 256, (2, 1, 8, 8, 3), dtype=np.uint8),
        "keep": np.array([[0, 2], [1, 3]]),
        "label": np.array([0, 1]),
        "counted": np.array([True, True]),
        "sample": np.array([2 * block, 2 * block + 1]),
        "epoch": np.array([0, 0]),
        "block": block,
        "faults": [],
        "stats": STATS,
    }
    return values | changed


def feed(rows, *, seed: int = 0, ahead: int = 2, ledger: str | None = None, blocks=None) -> Feed:
    return Feed(rows, device=CPU, seed=seed, ahead=ahead, ledger=ledger, blocks=blocks)


def test_batches_come_in_order_as_tensors_with_their_numbers_beside_them():
    batches = list(feed(row(block) for block in range(5)))
    assert [batch["block"] for batch in batches] == list(range(5))
    for block, batch in enumerate(batches):
        assert torch.equal(batch["clips"], torch.from_numpy(row(block)["clips"]))
        assert batch["keep"].dtype == torch.int64
        assert batch["sample"].tolist() == [2 * block, 2 * block + 1]


def test_memory_that_may_not_be_written_is_copied_without_a_warning():
    given = row(0)
    given["clips"].flags.writeable = False
    [batch] = feed([given])
    batch["clips"].zero_()
    assert given["clips"].any()


def test_an_error_of_the_feeding_thread_rises_in_the_loop_after_what_came_before_it():
    def rows():
        yield row(0)
        raise FileNotFoundError("clip.mp4 is gone")

    batches = iter(feed(rows()))
    assert next(batches)["block"] == 0
    with pytest.raises(FileNotFoundError, match=r"clip\.mp4 is gone"):
        next(batches)


@pytest.mark.parametrize(
    ("arriving", "message"),
    [
        ([7, 9], "micro-batch 7 arrived where 9 should come next"),
        ([9, 13], "micro-batch 13 arrived where 11 should come next"),
        ([9, 9], "micro-batch 9 arrived where 11 should come next"),
    ],
)
def test_a_micro_batch_out_of_turn_is_refused_and_not_written_to_the_ledger(arriving, message, tmp_path):
    """Rank 1 of two, whose checkpoint ends before block 8."""
    ledger = tmp_path / "ledger.jsonl"
    rows = [row(block) for block in arriving]
    with pytest.raises(StreamError, match=message):
        list(feed(rows, blocks=itertools.count(9, 2), ledger=str(ledger)))
    entered = ledger.read_text().splitlines() if ledger.exists() else []
    assert [json.loads(line)["block"] for line in entered] == [block for block in arriving[:1] if block == 9]


def test_an_error_in_the_ledger_rises_in_the_loop(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write"):
        list(feed([row(0)], ledger=str(tmp_path / "file" / "ledger.jsonl")))


def test_waiting_is_measured_and_starts_again_when_it_is_taken(monkeypatch):
    """By a clock that moves only while the loop waits: three seconds for each batch."""
    now, asked, loop = [0.0], threading.Semaphore(0), threading.current_thread()

    def perf_counter() -> float:
        if threading.current_thread() is loop:
            asked.release()
        return now[0]

    def rows():
        for block in range(2):
            asked.acquire()  # the loop has begun to wait
            now[0] += 3
            yield row(block)
            asked.acquire()  # the loop has its batch
        asked.acquire()

    monkeypatch.setattr(feed_module, "time", SimpleNamespace(perf_counter=perf_counter))
    given = feed(rows(), ahead=1)
    batches = iter(given)
    next(batches)
    next(batches)
    assert given.take_intake().waited_seconds == 6.0
    assert given.take_intake().waited_seconds == 0.0


def test_what_building_the_used_blocks_took_is_summed():
    """Of those that the loop has taken, not of those that wait for it."""
    given = feed(row(block) for block in range(5))
    batches = iter(given)
    for _ in range(3):
        assert "stats" not in next(batches)
    intake = given.take_intake()
    assert (intake.decodes, intake.build_seconds, intake.read_bytes) == (6, 1.5, 3000)
    assert (intake.build_cpu_seconds, intake.read_seconds) == (0.75, 0.375)
    assert intake.copy_seconds > 0
    assert given.take_intake().decodes == 0


def test_no_more_than_what_was_asked_for_is_made_ahead():
    """With one ahead: one taken, one in the queue, one made and waiting for room."""
    made: list[int] = []

    def rows():
        for block in range(100):
            made.append(block)
            yield row(block)

    next(iter(feed(rows(), ahead=1)))
    assert len(made) <= 4


def test_faults_grow_until_they_are_taken():
    faults = [{"sample": 1}, {"sample": 5}]
    given = feed([row(0, faults=faults[:1]), row(1), row(2, faults=faults[1:])])
    for batch in given:
        assert "faults" not in batch
    assert given.take_faults() == faults
    assert given.take_faults() == []


def drawn(seed: int, blocks: list[int]) -> dict[int, list[float]]:
    """What dropout would draw in each block."""
    return {batch["block"]: torch.rand(3).tolist() for batch in feed([row(b) for b in blocks], seed=seed)}


def test_what_is_drawn_in_a_block_depends_on_the_seed_and_the_block_alone():
    whole = drawn(0, [0, 1, 2, 3])
    torch.rand(17)
    # As one of two workers sees them, and after an interruption.
    assert drawn(0, [1, 3]) == {block: whole[block] for block in (1, 3)}
    assert drawn(0, [3, 2]) == {block: whole[block] for block in (3, 2)}
    assert whole[0] != whole[1]
    assert drawn(1, [1])[1] != whole[1]


def test_the_ledger_says_what_was_seen_block_by_block(tmp_path):
    ledger = tmp_path / "ledger" / "rank.jsonl"
    list(feed([row(0), row(4)], ledger=str(ledger)))
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [(line["block"], line["samples"], line["epochs"]) for line in lines] == [
        (0, [0, 1], [0, 0]),
        (4, [8, 9], [0, 0]),
    ]
    assert [line["sha256"] for line in lines] == [digest(row(0)), digest(row(4))]


@pytest.mark.parametrize("column", ["clips", "keep", "label"])
def test_the_digest_sees_every_pixel_every_mask_and_every_label(column):
    changed = row(0)
    changed[column] = changed[column].copy()
    changed[column].flat[-1] += 1
    assert digest(changed) != digest(row(0))


def test_the_digest_does_not_depend_on_how_the_memory_lies():
    given = row(0)
    given["clips"] = np.asfortranarray(given["clips"])
    assert digest(given) == digest(row(0))
