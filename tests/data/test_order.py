"""The sample stream: complete epochs, no memory, and nothing that depends on the workers."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mae_dist.data.order import SampleOrder, block_positions

orders = st.builds(
    SampleOrder,
    num_samples=st.integers(1, 300),
    chunk=st.integers(1, 400),
    seed=st.integers(0, 2**64),
)


def epoch_of(order: SampleOrder, epoch: int) -> np.ndarray:
    positions = np.arange(order.num_samples) + epoch * order.num_samples
    epochs, samples = order.at(positions)
    assert (epochs == epoch).all()
    return samples


@given(orders, st.integers(0, 2000))
def test_every_epoch_is_a_complete_permutation(order, epoch):
    assert sorted(epoch_of(order, epoch)) == list(range(order.num_samples))


@given(orders, st.lists(st.integers(0, 10**9), min_size=1, max_size=40))
def test_a_position_has_its_sample_whatever_is_asked_beside_it(order, positions):
    epochs, samples = order.at(np.array(positions))
    one_by_one = [order.at(np.array([position])) for position in positions]
    assert epochs.tolist() == [int(epoch[0]) for epoch, _ in one_by_one]
    assert samples.tolist() == [int(sample[0]) for _, sample in one_by_one]


@given(orders, st.integers(0, 50))
def test_the_samples_of_a_chunk_stay_together(order, epoch):
    chunks = epoch_of(order, epoch) // order.chunk
    runs = 1 + np.count_nonzero(np.diff(chunks))
    assert runs == -(-order.num_samples // order.chunk)


@given(
    st.integers(1, 500),
    st.integers(1, 40),
    st.integers(0, 2**32),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 50),
)
def test_any_worker_count_gives_the_same_samples_per_global_batch(
    num_samples, chunk, seed, micro_batch, accumulation, step
):
    order = SampleOrder(num_samples, chunk, seed)
    global_batch = micro_batch * 4 * accumulation
    expected = order.at(np.arange(step * global_batch, (step + 1) * global_batch))
    for workers in (1, 2, 4):
        blocks_per_step = global_batch // micro_batch
        blocks = range(step * blocks_per_step, (step + 1) * blocks_per_step)
        by_rank = {rank: [b for b in blocks if b % workers == rank] for rank in range(workers)}
        assert {len(its) for its in by_rank.values()} == {blocks_per_step // workers}
        # In the order in which the ranks work through them: micro-step by micro-step.
        walked = [by_rank[rank][i] for i in range(blocks_per_step // workers) for rank in range(workers)]
        found = [order.at(block_positions(block, micro_batch)) for block in walked]
        for part in (0, 1):
            assert (np.concatenate([block[part] for block in found]) == expected[part]).all()


@given(orders, st.integers(1, 6), st.integers(0, 300))
def test_repeated_sampling_shows_every_sample_so_often_in_so_many_epochs(order, repeats, first_pass):
    """All views of a sample side by side, samples in the order of the plain stream."""
    repeated = dataclasses.replace(order, repeats=repeats)
    num_positions = repeats * order.num_samples
    epochs, samples = repeated.at(np.arange(num_positions) + first_pass * num_positions)
    assert (epochs.reshape(-1, repeats) == first_pass * repeats + np.arange(repeats)).all()
    assert (samples.reshape(-1, repeats) == epoch_of(order, first_pass)[:, None]).all()


def test_ten_million_samples_for_800_epochs_need_no_memory():
    tracemalloc.start()
    try:
        order = SampleOrder(10_000_000, 64, seed=1)
        last = order.num_samples * 800
        epochs, samples = order.at(np.arange(last - 512, last))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (epochs == 799).all()
    assert len(set(samples.tolist())) == 512
    assert peak_bytes < 1_000_000


def test_epochs_and_seeds_differ():
    orders = [tuple(epoch_of(SampleOrder(100, 4, seed), epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


@pytest.mark.parametrize("chunk", [1, 3])
def test_every_permutation_of_three_samples_is_equally_likely(chunk):
    order = SampleOrder(3, chunk, seed=5)
    _, samples = order.at(np.arange(3 * 6000))
    _, counts = np.unique(samples.reshape(-1, 3), axis=0, return_counts=True)
    assert len(counts) == 6
    assert (abs(counts - 1000) < 150).all()  # five standard deviations


def test_every_sample_comes_first_equally_often():
    order = SampleOrder(50, 7, seed=2)
    _, samples = order.at(np.arange(20_000) * 50)
    counts = np.bincount(samples, minlength=50)
    # A sample of the short chunk (one of 50) comes first as often as its whole chunk does: one time in eight.
    assert abs(counts[49] - 20_000 / 8) < 250
    assert (abs(counts[:49] - 20_000 / 8 / 7) < 100).all()


def test_the_stream_of_a_seed_never_changes():
    _, samples = SampleOrder(10, 3, seed=0).at(np.arange(20))
    assert samples.tolist() == [
        9, 1, 2, 0, 6, 8, 7, 4, 5, 3,
        9, 7, 6, 8, 4, 5, 3, 2, 1, 0,
    ]  # fmt: skip


@pytest.mark.parametrize(("num_samples", "chunk", "repeats"), [(0, 1, 1), (5, 0, 1), (5, 1, 0)])
def test_an_empty_order_is_refused(num_samples, chunk, repeats):
    with pytest.raises(ValueError, match=rf"num_samples={num_samples}, chunk={chunk}, repeats={repeats}"):
        SampleOrder(num_samples, chunk, 0, repeats)
