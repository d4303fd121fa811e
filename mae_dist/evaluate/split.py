"""Which training samples are held out to choose heads, neighbours and layers with."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from mae_dist.data.catalog import Catalog
from mae_dist.data.mix import Samples


def validation_samples(samples: Samples, *, share: float, seed: int) -> np.ndarray:
    """Which samples are held out, bool (num_samples,): of each class its share, rounded, but never all.

    Chosen by the names of the samples, so that neither their order nor how they are read changes the choice.
    Raises ValueError if the share is less than half a sample in every class.
    """
    parts = [samples] if isinstance(samples, Catalog) else [part.catalog for part in samples.parts]
    keys = pa.chunked_array([chunk for part in parts for chunk in part.table["key"].chunks]).to_pylist()
    labels = np.concatenate([part.table["label"].to_numpy() for part in parts])
    draws = np.array([_draw(key, seed) for key in keys], dtype=np.uint64)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels[labels >= 0]):
        [own] = np.nonzero(labels == label)
        count = min(round(share * len(own)), len(own) - 1)
        chosen[own[np.argsort(draws[own], kind="stable")[:count]]] = True
    if not chosen.any():
        raise ValueError(
            f"features.validation_share: {share:g} of {len(labels)} samples is less than half a sample in "
            "every class; give a larger share, or more samples"
        )
    return chosen


def _draw(key: str, seed: int) -> int:
    """A number that belongs to a name."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest(), "little")
