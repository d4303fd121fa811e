"""Samples whose bytes are equal: within a catalog, and between it and another one.

Only sound samples count. A corrupt one is named as such already, and a thousand copies of the same error page
are not a thousand duplicates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mae_dist.data.audit.findings import Spread, digests, sound_ones
from mae_dist.data.catalog import Catalog
from mae_dist.data.places import first_at_place
from mae_dist.data.readers.source import Show, show_nothing


@dataclass(frozen=True)
class Leak:
    """What of a catalog is in another one too."""

    pairs: np.ndarray
    """int64 (N, 2), ascending: number of a sample here, and of the first there that has its bytes."""
    unread: int
    """Samples of the other one whose bytes could not be read to be compared."""


def duplicates(catalog: Catalog, findings: pa.Table) -> list[np.ndarray]:
    """Numbers of samples with equal bytes, each group ascending, and the groups by the first of each.

    Keyframes are equal at equal times only: those of one movie have all of its bytes in common.
    """
    sound = sound_ones(findings)
    samples, hashes = sound["sample"].to_numpy(), sound["sha256"].combine_chunks()
    keys = hashes.dictionary_encode().indices.to_numpy()
    if "time" in catalog.table.column_names:
        times = np.unique(catalog.table["time"].to_numpy()[samples], return_inverse=True)[1]
        keys = keys * np.int64(len(samples) + 1) + times
    order = np.argsort(keys, kind="stable")
    groups = np.split(samples[order], np.flatnonzero(np.diff(keys[order])) + 1)
    return sorted((group for group in groups if len(group) > 1), key=lambda group: group[0])


def conflicts(groups: list[np.ndarray], labels: np.ndarray) -> list[np.ndarray]:
    """Those groups of equal samples that have more than one label; -1, unknown, agrees with all."""
    return [group for group in groups if len(set(labels[group].tolist()) - {-1}) > 1]


def leak(findings: pa.Table, other: Catalog, *, spread: Spread = map, show: Show = show_nothing) -> Leak:
    """Which sound samples have the same bytes as a sample of `other`.

    Its digests are taken from it where it has been audited; else its samples are read, unless their length
    already says that they are different ones.
    """
    sound = sound_ones(findings)
    lengths = other.table["length"].to_numpy()
    hashes = other.table["sha256"].to_pylist()
    may_be_equal = (lengths < 0) | np.isin(lengths, sound["bytes"].to_numpy())
    is_unknown = np.array([not digest for digest in hashes])
    wanted = np.unique(first_at_place(other)[is_unknown & may_be_equal])
    read = digests(other, wanted, spread=spread, show=show)
    for sample, digest in zip(read["sample"].to_pylist(), read["sha256"].to_pylist(), strict=True):
        hashes[sample] = digest
    first: dict[bytes, int] = {}
    for sample, digest in enumerate(hashes):
        first.setdefault(digest, sample)
    first.pop(b"", None)
    ours = zip(sound["sample"].to_pylist(), sound["sha256"].to_pylist(), strict=True)
    pairs = [(sample, first[digest]) for sample, digest in ours if digest in first]
    return Leak(np.array(pairs, dtype=np.int64).reshape(-1, 2), len(read) - read["reason"].null_count)
