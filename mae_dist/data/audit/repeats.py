"""Samples whose bytes are equal: within a catalog, and between it and another one.

Only sound samples count. A corrupt one is named as such already, and a thousand copies of the same error page
are not a thousand duplicates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mae_dist.data.audit.findings import Show, Spread, digests
from mae_dist.data.catalog import Catalog


@dataclass(frozen=True)
class Leak:
    """What of a catalog is in another one too."""

    pairs: np.ndarray
    """int64 (N, 2), ascending: number of a sample here, and of the first there that has its bytes."""
    unread: int
    """Samples of the other one whose bytes could not be read to be compared."""


def duplicates(findings: pa.Table) -> list[np.ndarray]:
    """Numbers of samples with equal bytes, each group ascending and by the first of each."""
    sound = findings.filter(pc.is_null(findings["reason"]))
    codes = sound["sha256"].combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    groups = np.split(sound["sample"].to_numpy()[order], np.flatnonzero(np.diff(codes[order])) + 1)
    return sorted((group for group in groups if len(group) > 1), key=lambda group: group[0])


def conflicts(groups: list[np.ndarray], labels: np.ndarray) -> list[np.ndarray]:
    """Those groups of equal samples that have more than one label; -1, unknown, agrees with all."""
    return [group for group in groups if len(set(labels[group].tolist()) - {-1}) > 1]


def leak(findings: pa.Table, other: Catalog, *, spread: Spread = map, show: Show | None = None) -> Leak:
    """Which sound samples have the same bytes as a sample of `other`.

    Its digests are taken from it where it has been audited; else its samples are read, unless their length
    already says that they are different ones.
    """
    sound = findings.filter(pc.is_null(findings["reason"]))
    lengths = other.table["length"].to_numpy()
    known = other.table["sha256"].combine_chunks()
    is_unknown = pc.equal(pc.binary_length(known), 0).to_numpy(zero_copy_only=False)
    maybe = (lengths < 0) | np.isin(lengths, sound["bytes"].to_numpy())
    read = digests(other, np.flatnonzero(is_unknown & maybe), spread=spread, show=show)
    there = pa.concat_arrays([known, read["sha256"].combine_chunks()])
    samples_there = np.concatenate([np.arange(len(known)), read["sample"].to_numpy()])
    has_bytes = pc.greater(pc.binary_length(there), 0)
    samples_there, there = samples_there[has_bytes.to_numpy(zero_copy_only=False)], there.filter(has_bytes)
    found = pc.index_in(sound["sha256"], value_set=there)
    is_there = pc.is_valid(found).to_numpy(zero_copy_only=False)
    ours = sound["sample"].to_numpy()[is_there]
    theirs = samples_there[pc.drop_null(found).to_numpy(zero_copy_only=False)]
    unread = int(pc.sum(pc.is_valid(read["reason"])).as_py() or 0)
    return Leak(np.stack([ours, theirs.astype(np.int64)], axis=1), unread)
