"""The stream of a mix: exact shares, every source its own stream, and nothing that is stored."""

from __future__ import annotations

import dataclasses
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mae_dist.data.order import SampleOrder
from mae_dist.data.turns import PERIOD, MixedOrder, whole_weights

WINDOW = 600


@st.composite
def mixes(draw: st.DrawFn) -> MixedOrder:
    number = draw(st.integers(1, 5))

    def several(most: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(1, most), min_size=number, max_size=number)))

    return MixedOrder(
        sizes=several(60),
        chunks=several(20),
        weights=several(draw(st.sampled_from([3, 100, 2**27]))),
        seed=draw(st.integers(0, 2**64)),
    )


def start_of(order: MixedOrder, samples: np.ndarray) -> np.ndarray:
    """The source that each of these samples is of."""
    return np.searchsorted(np.cumsum(order.sizes), samples, side="right")


@given(mixes(), st.integers(0, 10**12))
def test_every_source_has_its_share_of_any_positions_in_a_row(order, first):
    sources, _ = order.turns(np.arange(first, first + WINDOW))
    harmonic = sum(1 / number for number in range(1, len(order.sizes) + 1))
    for source, weight in enumerate(order.weights):
        share = weight / sum(order.weights)
        counts = np.concatenate([[0], np.cumsum(sources == source)])
        off = counts - share * np.arange(WINDOW + 1)
        assert off.max() - off.min() < PERIOD / 2 + harmonic


@given(mixes())
def test_shares_are_exact_in_the_long_run(order):
    """After any number of rounds of whole weights, up to the shuffling of one period."""
    draws = np.arange(sum(order.weights) * 1000 // PERIOD * PERIOD - PERIOD, sum(order.weights) * 1000)
    sources, turns = order.turns(draws)
    for source in set(sources.tolist()):
        assert abs(turns[sources == source].max() - 1000 * order.weights[source]) <= PERIOD


@given(mixes())
def test_every_source_is_gone_through_as_if_it_were_alone(order):
    epochs, samples = order.at(np.arange(WINDOW))
    first = 0
    for source, size in enumerate(order.sizes):
        own = start_of(order, samples) == source
        alone = order.of_source(source).at(np.arange(own.sum()))
        assert (epochs[own] == alone[0]).all()
        assert (samples[own] - first == alone[1]).all()
        first += size


@given(mixes(), st.lists(st.integers(0, 10**12), min_size=1, max_size=30))
def test_a_position_has_its_sample_whatever_is_asked_beside_it(order, positions):
    epochs, samples = order.at(np.array(positions))
    one_by_one = [order.at(np.array([position])) for position in positions]
    assert epochs.tolist() == [int(epoch[0]) for epoch, _ in one_by_one]
    assert samples.tolist() == [int(sample[0]) for _, sample in one_by_one]


@given(mixes(), st.integers(1, 4), st.integers(0, 1000))
def test_repeats_show_every_sample_of_the_plain_stream_so_often(order, repeats, first):
    _, plain = order.at(np.arange(first, first + 50))
    repeated = dataclasses.replace(order, repeats=repeats)
    epochs, samples = repeated.at(np.arange(first * repeats, (first + 50) * repeats))
    assert (samples.reshape(-1, repeats) == plain[:, None]).all()
    assert (epochs.reshape(-1, repeats) % repeats == np.arange(repeats)).all()


@given(mixes(), st.integers(1, 3))
def test_no_two_positions_share_their_draws(order, repeats):
    """Draws are keyed by seed, epoch and sample."""
    epochs, samples = dataclasses.replace(order, repeats=repeats).at(np.arange(WINDOW))
    assert len(set(zip(epochs.tolist(), samples.tolist(), strict=True))) == WINDOW


def test_a_mix_of_one_is_the_stream_of_its_source():
    mixed = MixedOrder(sizes=(50,), chunks=(7,), weights=(1,), seed=3).at(np.arange(200))
    alone = SampleOrder(50, 7, seed=3).at(np.arange(200))
    assert np.array_equal(mixed, alone)


def test_sources_of_one_size_come_in_different_orders():
    order = MixedOrder(sizes=(40, 40), chunks=(1, 1), weights=(1, 1), seed=0)
    first, second = (order.of_source(source).at(np.arange(40))[1].tolist() for source in (0, 1))
    assert first != second


def test_batches_have_no_stripes():
    """One of four, in batches of 16: each of its places is used."""
    sources, _ = MixedOrder(sizes=(9, 9), chunks=(1, 1), weights=(3, 1), seed=0).turns(np.arange(16_000))
    by_place = (sources == 1).reshape(-1, 16).mean(axis=0)
    assert (abs(by_place - 0.25) < 0.07).all()


def test_the_stream_of_a_mix_never_changes():
    _, samples = MixedOrder(sizes=(6, 4), chunks=(2, 1), weights=(2, 1), seed=0).at(np.arange(24))
    assert samples.tolist() == [
        3, 2, 1, 8, 9, 0, 4, 5, 0, 1, 6, 7,
        5, 9, 4, 3, 2, 0, 1, 8, 7, 2, 3, 4,
    ]  # fmt: skip


def test_long_streams_over_large_sources_need_no_memory():
    order = MixedOrder(sizes=(10_000_000, 1_281_167), chunks=(1, 64), weights=(4, 1), seed=1)
    last = sum(order.sizes) * 800
    tracemalloc.start()
    try:
        epochs, samples = order.at(np.arange(last - 512, last))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Four fifths of the stream go through the first source, one fifth through the second.
    passes = [round(last * share / size) for share, size in zip((0.8, 0.2), order.sizes, strict=True)]
    assert set(epochs[samples < 10_000_000].tolist()) == {passes[0] - 1}
    assert abs(int(epochs[samples >= 10_000_000].max()) - passes[1]) <= 1
    assert len(set(samples.tolist())) == 512
    assert peak_bytes < 2_000_000


@pytest.mark.parametrize(
    ("given_weights", "whole"),
    [
        ([0.8, 0.2], (4, 1)),
        ([1.0], (1,)),
        ([2, 4, 6], (1, 2, 3)),
        ([0.1, 0.2, 0.7], (1, 2, 7)),
        ([1e-9, 1.0], (1, 1_000_000_000)),
    ],
)
def test_weights_become_the_smallest_whole_numbers(given_weights, whole):
    assert whole_weights(given_weights) == whole


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=6))
def test_weights_of_many_digits_are_kept_to_a_billionth(weights):
    whole = whole_weights(weights)
    exact = [Fraction(weight) / sum(map(Fraction, weights)) for weight in weights]
    assert sum(whole) <= 2**30 + len(weights)
    for share, number in zip(exact, whole, strict=True):
        assert abs(share - Fraction(number, sum(whole))) < Fraction(1, 10**8)
