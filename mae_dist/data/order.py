"""Which samples come when: the sample stream as a pure function.

A run reads positions 0, 1, 2, ... of one endless stream. `SampleOrder` says which epoch and which sample
stand at a position; nothing is stored, so ten million samples over 800 epochs cost as much as ten. Every
epoch is a complete permutation of the samples, and the stream has no seam between two epochs.

Samples are permuted in chunks. A chunk is `chunk` consecutive samples of the catalog, which lie beside each
other in one shard and are read with one request; the chunks of an epoch come in random order and so do the
samples within a chunk. Only the last chunk of the catalog may be short.

    position -> (epoch, offset) -> (place of the chunk, offset in it) -> (chunk, sample in it) -> sample

A block is the micro-batch of one rank: block j covers positions [j*m, (j+1)*m) and belongs to rank j mod
world; global batch k is positions [k*B, (k+1)*B). Neither depends on the number of workers.

With repeated sampling the positions j*K .. j*K + K-1 are K views of one sample, which is decoded once. K
epochs are then one permutation: the K * num_samples positions from a multiple of that on show every sample
K times. The K views of a sample belong to the K epochs, so that all their draws differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mae_dist.data.permutation import permute, scramble


@dataclass(frozen=True, slots=True)
class SampleOrder:
    """The stream over `num_samples` samples, permuted anew in every epoch.

    `chunk` is the number of neighbouring samples that stay together (1: a plain permutation), `repeats` the
    number of positions in a row that show the same sample (1: every epoch has a permutation of its own).
    Raises ValueError unless all three numbers are at least 1.
    """

    num_samples: int
    chunk: int
    seed: int
    repeats: int = 1

    def __post_init__(self) -> None:
        if min(self.num_samples, self.chunk, self.repeats) < 1:
            raise ValueError(
                f"an order needs at least one sample, chunks of at least one sample and one view of each, "
                f"got num_samples={self.num_samples}, chunk={self.chunk}, repeats={self.repeats}"
            )

    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and samples at stream `positions` (any shape, non-negative); int64, same shape."""
        draws, views = np.divmod(np.asarray(positions, dtype=np.int64), self.repeats)
        passes, samples = self._draw(draws)
        return passes * self.repeats + views, samples

    def _draw(self, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pass over the data and the sample of these decodes."""
        passes, offsets = np.divmod(draws, self.num_samples)
        num_chunks = -(-self.num_samples // self.chunk)
        short = self.num_samples - (num_chunks - 1) * self.chunk
        keys = scramble(passes.astype(np.uint64) + scramble(np.uint64(self.seed % 2**64)))

        # The short chunk stands at another place in every pass; what comes after it is shifted.
        short_place = permute(np.full_like(passes, num_chunks - 1), num_chunks, keys, inverse=True)
        behind = offsets >= short_place * self.chunk + short
        places, within = np.divmod(np.where(behind, offsets + self.chunk - short, offsets), self.chunk)

        chunks = permute(places, num_chunks, keys)
        sizes = np.where(chunks == num_chunks - 1, short, self.chunk)
        inner_keys = scramble(keys ^ scramble(chunks.astype(np.uint64) + np.uint64(1)))
        return passes, chunks * self.chunk + permute(within, sizes, inner_keys)


def block_positions(block: int, micro_batch: int) -> np.ndarray:
    """Stream positions of one block: [block * micro_batch, (block + 1) * micro_batch), int64."""
    return np.arange(block * micro_batch, (block + 1) * micro_batch, dtype=np.int64)
