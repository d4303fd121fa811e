"""Features in the order in which heads see them, within a bound on memory.

    blocks, permuted -> windows of so many bytes -> rows, permuted -> batches

Where everything fits into one window it is read once, and every epoch is one permutation of all rows. The
order depends on the features, the seed, the epoch and the bound alone. An epoch has no seam: the last batch
of one is filled up with the first rows of the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from mae_dist.data import keys
from mae_dist.evaluate.features import Features, Record, joined

Rows = Mapping[str, Tensor]
"""Features by name and COLUMNS, of equal length."""
GIGABYTE = 1 << 30


class Windows:
    """The rows of some samples of a folder of features; `wanted` says which, bool by number, None all."""

    def __init__(
        self,
        features: Features,
        *,
        memory_gb: float,
        device: torch.device,
        wanted: np.ndarray | None = None,
    ) -> None:
        self._features = features
        self._records = [record for record in features.records() if record.rows]
        self._bound = memory_gb * GIGABYTE
        self._device = device
        self._wanted = None if wanted is None else torch.from_numpy(wanted)
        self._whole: Rows | None = None

    def in_order(self) -> Iterator[Rows]:
        """All rows, a window at a time; the views of a sample stay together."""
        for group in self._grouped(range(len(self._records))):
            rows = self._whole or self._load(group)
            if len(rows["label"]):
                yield rows

    def batches(self, size: int, *, seed: int) -> Iterator[Rows]:
        """Endless batches of `size` rows; needs at least one row."""
        pieces: list[Rows] = []
        missing = size
        for rows, order in self._shuffled(seed):
            start = 0
            while start < len(order):
                ids = order[start : start + missing]
                pieces.append({name: values[ids] for name, values in rows.items()})
                start, missing = start + len(ids), missing - len(ids)
                if not missing:
                    yield pieces[0] if len(pieces) == 1 else joined(pieces)
                    pieces, missing = [], size

    def _shuffled(self, seed: int) -> Iterator[tuple[Rows, Tensor]]:
        """Windows of epoch after epoch, each with a permutation of its rows."""
        epoch = 0
        while True:
            blocks = keys.rng(seed, epoch, 0, "feature blocks").permutation(len(self._records))
            for number, group in enumerate(self._grouped(blocks)):
                rows = self._whole or self._load(group)
                draws = keys.rng(seed, epoch, number, "feature rows").permutation(len(rows["label"]))
                yield rows, torch.from_numpy(draws).to(self._device)
            epoch += 1

    def _grouped(self, blocks: range | np.ndarray) -> Iterator[list[Record]]:
        """The blocks in groups that fit; all in plain order if they fit at once."""
        if sum(record.size for record in self._records) <= self._bound:
            yield self._records
            return
        group: list[Record] = []
        size = 0
        for block in blocks:
            record = self._records[block]
            if group and size + record.size > self._bound:
                yield group
                group, size = [], 0
            group.append(record)
            size += record.size
        yield group

    def _load(self, group: list[Record]) -> Rows:
        kept = []
        for columns in self._features.read(group):
            if self._wanted is not None:
                mask = self._wanted[columns["sample"]]
                columns = {name: values[mask] for name, values in columns.items()}
            kept.append(columns)
        rows = {name: values.to(self._device) for name, values in joined(kept).items()}
        if len(group) == len(self._records):
            self._whole = rows
        return rows
