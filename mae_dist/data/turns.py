"""Whose turn it is: the sample stream of a mix as a pure function.

A mix draws from several sources by weight. Every source is a stream of its own, a `SampleOrder`, of which the
mix takes the samples one after the other: a source is gone through without replacement, however small its
share. Which source gives the sample of a draw, and its how manieth that is, follows from arithmetic alone.

    draw -> place in its period, shuffled -> (source, turn) -> the source's own stream at that turn -> sample

In plain order the lightest source takes as many of the first n draws as its share of them, rounded; the next
one its share of the rest, and so on. Periods of PERIOD draws are then shuffled, so that batches have no
stripes. So among any draws in a row the count of each of S sources differs from its share by less than
PERIOD / 2 + H(S), H(S) = 1 + 1/2 + ... + 1/S, and shares are exact in the long run.
Letters: M draws, P places of a period, S sources.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mae_dist.data.order import SampleOrder
from mae_dist.data.permutation import permute, scramble

PERIOD = 16
"""Draws that are shuffled with each other: enough to break stripes, few enough to keep every batch mixed."""

_LARGEST_TOTAL = 1 << 30
"""Of whole weights: twice its square still fits into 63 bits."""
_SEED_STEP = 0x9E3779B97F4A7C15


def whole_weights(weights: Sequence[float]) -> tuple[int, ...]:
    """The same proportions in the smallest whole numbers: 0.8 and 0.2 are 4 and 1.

    Weights are read as the decimals that they were written as. Should their common denominator exceed 2^30,
    shares are rounded to multiples of 2^-30.
    """
    exact = [Fraction(repr(weight)) for weight in weights]
    unit = math.lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * unit) for weight in exact]
    common = math.gcd(*whole)
    if sum(whole) // common > _LARGEST_TOTAL:
        return tuple(max(1, round(weight / sum(exact) * _LARGEST_TOTAL)) for weight in exact)
    return tuple(weight // common for weight in whole)


@dataclass(frozen=True, slots=True)
class MixedOrder:
    """The stream over several sources, whose samples are numbered through, those of the first one first.

    `sizes` and `chunks` are the sources' numbers of samples and of neighbours that stay together, `weights`
    whole numbers. With `repeats` every draw gives so many positions in a row that show the same sample.
    """

    sizes: tuple[int, ...]
    chunks: tuple[int, ...]
    weights: tuple[int, ...]
    seed: int
    repeats: int = 1

    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and samples at stream `positions` (any shape, non-negative); int64, same shape.

        An epoch is one pass over the sample's own source, as `SampleOrder` counts it.
        """
        positions = np.asarray(positions, dtype=np.int64)
        draws, views = np.divmod(positions.reshape(-1), self.repeats)
        sources, turns = self.turns(draws)
        epochs, samples = np.empty_like(draws), np.empty_like(draws)
        first = 0
        for source, size in enumerate(self.sizes):
            own = sources == source
            its_epochs, its_samples = self.of_source(source).at(turns[own] * self.repeats + views[own])
            epochs[own], samples[own] = its_epochs, its_samples + first
            first += size
        return epochs.reshape(positions.shape), samples.reshape(positions.shape)

    def of_source(self, source: int) -> SampleOrder:
        """The stream of one source, with samples numbered from 0; that of the first is its stream alone."""
        seed = (self.seed + source * _SEED_STEP) % 2**64
        return SampleOrder(self.sizes[source], self.chunks[source], seed, self.repeats)

    def turns(self, draws_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The source of each draw and how many draws before it were that source's; int64 (M,)."""
        periods_M, within_M = np.divmod(draws_M, PERIOD)
        places_P = np.arange(PERIOD)
        edges_M1 = (periods_M * PERIOD)[:, None]
        counts_MPS = self._counts(edges_M1 + np.arange(PERIOD + 1))
        in_order_MP = np.diff(counts_MPS, axis=1).argmax(axis=2)
        keys_M = scramble(periods_M.astype(np.uint64) + scramble(scramble(np.uint64(self.seed % 2**64))))
        places_MP = np.broadcast_to(places_P, in_order_MP.shape)
        sources_MP = np.take_along_axis(in_order_MP, permute(places_MP, PERIOD, keys_M[:, None]), axis=1)
        sources_M = np.take_along_axis(sources_MP, within_M[:, None], axis=1)[:, 0]
        earlier_M = ((sources_MP == sources_M[:, None]) & (places_P < within_M[:, None])).sum(axis=1)
        return sources_M, counts_MPS[np.arange(len(draws_M)), 0, sources_M] + earlier_M

    def _counts(self, draws: np.ndarray) -> np.ndarray:
        """How many of the first so many draws each source gives, in plain order; shape (..., S).

        From one number of draws to the next exactly one count grows, by one.
        """
        weights_S = np.array(self.weights, dtype=np.int64)
        total = sum(self.weights)
        # Every `total` draws the counts are exact, which also keeps the products below from overflowing.
        rounds, rest = np.divmod(draws, total)
        counts = rounds[..., None] * weights_S
        *lighter, heaviest = np.argsort(weights_S, kind="stable")
        for source in lighter:
            share = (2 * rest * weights_S[source] + total) // (2 * total)
            counts[..., source] += share
            rest, total = rest - share, total - int(weights_S[source])
        counts[..., heaviest] += rest
        return counts
