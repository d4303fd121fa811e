"""What was found out about each sample of a catalog: a table with one row per sample.

    catalog -> groups of neighbours -> read, digest, open or decode -> FINDINGS, in the order of the catalog

Who does it for which group, here or on a cluster, is an argument: anything like `map`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mae_dist.data.audit.facts import FACT_BYTES, Facts, FactSpec, find_facts, read_facts
from mae_dist.data.catalog import Catalog
from mae_dist.data.decoder import process_decoder
from mae_dist.data.fetch import fetch
from mae_dist.data.limits import DecodeError, check_bytes
from mae_dist.data.places import first_at_place
from mae_dist.data.readers.source import Show, show_nothing
from mae_dist.data.views import Request

FINDINGS = pa.schema(
    [
        pa.field("sample", pa.int64(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.binary(), nullable=False),
        pa.field("codec", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("frames", pa.int32()),
        pa.field("fps", pa.float32()),
        pa.field("is_timed", pa.bool_()),
    ]
)
"""sample: its number in the catalog. reason: why it is corrupt, null where it is sound. bytes: -1 where they
could not be read. sha256: of the bytes, empty likewise. The rest, see `Facts`, is null of what is corrupt."""

Work = Callable[[np.ndarray], pa.Table]
Spread = Callable[[Work, Sequence[np.ndarray]], Iterable[pa.Table]]
"""Calls a function for each of the items, here (`map`) or elsewhere (`spread.spread`), in any order."""

_GROUP_SAMPLES = 32
_GROUP_BYTES = 128 << 20
_GROUPS_AT_LEAST = 64
"""The samples of a small catalog are divided so finely that every CPU has some."""


def audit(catalog: Catalog, spec: FactSpec, *, spread: Spread = map, show: Show = show_nothing) -> pa.Table:
    """Look at every sample: FINDINGS, one row per sample in the order of the catalog.

    Samples that lie at one place (the keyframes of a movie) are looked at once. Raises StorageError if a
    place cannot be reached (a file that is missing there is a finding), DecoderError if no sample can be
    decoded here.
    """
    first = first_at_place(catalog)
    looked_at = np.unique(first)
    groups = _groups(catalog, looked_at)
    found = _collect(spread(partial(_examine, catalog, spec), groups), len(looked_at), "audited", show)
    whole = found.take(pa.array(np.searchsorted(looked_at, first)))
    return whole.set_column(0, FINDINGS.field(0), pa.array(np.arange(catalog.num_samples)))


def digests(
    catalog: Catalog, samples: np.ndarray, *, spread: Spread = map, show: Show = show_nothing
) -> pa.Table:
    """FINDINGS of these samples, ascending, which are read and digested but not opened: no facts."""
    groups = _groups(catalog, samples)
    return _collect(spread(partial(_examine, catalog, None), groups), len(samples), "compared", show)


def sound_ones(findings: pa.Table) -> pa.Table:
    """Those of samples that are not corrupt."""
    return findings.filter(pc.field("reason").is_null())


def _groups(catalog: Catalog, samples: np.ndarray) -> list[np.ndarray]:
    """Neighbours that one task does: whole chunks of the catalog, but not too many bytes."""
    fewest = -(-len(samples) // _GROUPS_AT_LEAST)
    most = -(-min(_GROUP_SAMPLES, fewest) // catalog.chunk) * catalog.chunk
    lengths = catalog.table["length"].to_numpy().clip(0)
    groups: list[np.ndarray] = []
    for start in range(0, len(samples), most or 1):
        group = samples[start : start + most]
        full = np.cumsum(lengths[group]) // _GROUP_BYTES
        groups += np.split(group, np.flatnonzero(np.diff(full)) + 1)
    return groups


def _collect(tables: Iterable[pa.Table], total: int, what: str, show: Show) -> pa.Table:
    collected = [FINDINGS.empty_table()]
    done = 0
    for table in tables:
        collected.append(table)
        done += table.num_rows
        show(f"samples {what}", done, total)
    return pa.concat_tables(collected).combine_chunks().sort_by("sample")


def _examine(catalog: Catalog, spec: FactSpec | None, samples: np.ndarray) -> pa.Table:
    """FINDINGS of these samples; without a spec no more than their bytes is looked at."""
    rows = catalog.rows(samples)
    limits = (spec or FactSpec()).limits
    sizes, hashes = [-1] * len(rows), [b""] * len(rows)

    def requests() -> Iterator[Request | DecodeError]:
        for index, data in enumerate(fetch(rows, limits)):
            try:
                if isinstance(data, DecodeError):
                    raise data
                check_bytes(len(data), limits)
            except DecodeError as error:
                yield error
                continue
            sizes[index], hashes[index] = len(data), hashlib.sha256(data).digest()
            yield Request(data, rows[index].media, int(samples[index]), ())

    written = np.zeros((len(rows), FACT_BYTES), dtype=np.uint8)
    if spec is None:
        outcomes = [item if isinstance(item, DecodeError) else None for item in requests()]
        facts: list[Facts | None] = [None] * len(rows)
    else:
        outcomes = process_decoder(find_facts).decode(requests(), spec, written)
        facts = [
            read_facts(its) if error is None else None for its, error in zip(written, outcomes, strict=True)
        ]
    columns: dict[str, Any] = {
        "sample": samples,
        "reason": [None if error is None else str(error) for error in outcomes],
        "bytes": sizes,
        "sha256": hashes,
    } | {name: [its and getattr(its, name) for its in facts] for name in Facts._fields}
    return pa.table(columns, schema=FINDINGS)
