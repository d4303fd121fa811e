"""Samples that lie at one place: the keyframes of a movie, a file that a list names twice."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mae_dist.data.catalog import Catalog


def first_at_place(catalog: Catalog) -> np.ndarray:
    """For every sample the number of the first one that lies at the same place; int64 (N,)."""
    uris = catalog.table["uri"].cast(pa.string()).combine_chunks().dictionary_encode().indices.to_numpy()
    columns = (uris, catalog.table["row"].to_numpy(), catalog.table["offset"].to_numpy())
    order = np.lexsort(columns)  # stable: the first of a place comes first
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = np.any([np.diff(column[order]) != 0 for column in columns], axis=0)
    result = np.empty_like(order)
    result[order] = order[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
    return result
