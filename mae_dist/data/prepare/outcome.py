"""From a source to its finished copy: the parts that are missing, then the catalog of all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from mae_dist import storage
from mae_dist.data.catalog import Catalog
from mae_dist.data.places import first_at_place
from mae_dist.data.prepare.division import Part, divide
from mae_dist.data.prepare.packing import MOST_NEIGHBOURS, READ_TOGETHER_BYTES, ROWS_PER_GROUP
from mae_dist.data.prepare.part import (
    RECORDS,
    SHARDS,
    SOURCE,
    LeftOut,
    Record,
    make_part,
    part_name,
    read_record,
)
from mae_dist.data.prepare.settings import Settings, claim
from mae_dist.data.readers.source import Show, show_nothing

CATALOG, FAULTS = "catalog.parquet", "faults.jsonl"
_OF_PLACES = ("row", "offset", "length", "sha256", "frames", "fps")
"""Columns that say where a sample lies and what was written there; the others are the sample's own."""
_READERS = 16
_SHOWN = 20

Spread = Callable[[Callable[[Part], int], Sequence[Part]], Iterable[int]]
"""Calls a function with every item and gives the results in any order: `map`, or `data.spread.spread`."""


class TooManyFaultsError(RuntimeError):
    """More samples had to be left out than is allowed; the message names them."""


@dataclass(frozen=True)
class Outcome:
    """What was made of a source."""

    catalog: Catalog
    source_samples: np.ndarray
    """For each sample of the catalog its number in the catalog of the source."""
    left_out: tuple[LeftOut, ...]
    bytes_before: int
    """Of the samples in the catalog, as they were fetched."""
    bytes_after: int
    kept: int
    """Samples that were stored as they were."""
    shards: int
    made_now: int
    """Shards that were not there before."""


def prepare(
    source: Catalog,
    source_uri: str,
    destination: str,
    settings: Settings,
    *,
    spread: Spread,
    make: Callable[[str, Settings, Part], int] = make_part,
    most_faults: float = 0.01,
    show: Show = show_nothing,
) -> Outcome:
    """Make every shard of the destination that is not there, and then its catalog.

    Shards are pure functions of (source, settings), so a run that was killed is finished by the next one to
    the same bytes. Raises PrepareError if the destination is something else's, TooManyFaultsError if more
    than the share `most_faults` of the samples had to be left out (the shards stay, there is no catalog),
    StorageError if a place cannot be reached, DecoderError if nothing can be recoded.
    """
    claim(destination, source, source_uri, settings)
    if not storage.exists(storage.join(destination, SOURCE)):
        source.save(storage.join(destination, SOURCE))
    parts = divide(source, settings)
    missing = _missing(destination, parts)
    done = len(parts) - len(missing)
    show("shards made", done, len(parts))
    for _ in spread(partial(make, destination, settings), missing):
        done += 1
        show("shards made", done, len(parts))
    records = _records(destination, [part.number for part in parts])
    left_out = tuple(entry for record in records for entry in record.left_out)
    lines = (json.dumps(entry._asdict(), ensure_ascii=False) + "\n" for entry in left_out)
    storage.write_bytes(storage.join(destination, FAULTS), "".join(lines).encode())
    firsts = first_at_place(source)
    num_left_out = int(np.isin(firsts, [entry.sample for entry in left_out]).sum())
    _check(left_out, num_left_out, source.num_samples, destination, most_faults)
    catalog, source_samples = _catalog(destination, records, source, firsts)
    catalog.save(storage.join(destination, CATALOG))
    return Outcome(
        catalog=catalog,
        source_samples=source_samples,
        left_out=left_out,
        bytes_before=sum(record.bytes_before for record in records),
        bytes_after=sum(record.bytes_after for record in records),
        kept=sum(record.kept for record in records),
        shards=sum(record.shard is not None for record in records),
        made_now=len(missing),
    )


def _missing(destination: str, parts: Sequence[Part]) -> list[Part]:
    """The parts without a record, or whose shard is not there any more."""
    recorded = set(storage.list_dir(storage.join(destination, RECORDS)))
    shards = {name.partition(".")[0] for name in storage.list_dir(storage.join(destination, SHARDS))}
    here = [part for part in parts if f"{part_name(part.number)}.parquet" in recorded]
    lost = [part.number for part in here if part_name(part.number) not in shards]
    # Of those only one without a single usable sample has no shard.
    empty = {
        number
        for number, record in zip(lost, _records(destination, lost), strict=True)
        if record.shard is None
    }
    done = {part.number for part in here} - set(lost) | empty
    return [part for part in parts if part.number not in done]


def _records(destination: str, numbers: Sequence[int]) -> list[Record]:
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(partial(read_record, destination), numbers))


def _check(
    left_out: Sequence[LeftOut], num_left_out: int, num_samples: int, destination: str, most_faults: float
) -> None:
    if num_left_out < num_samples and num_left_out <= most_faults * num_samples:
        return
    more = f"\n  and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
    advice = "; with a larger share the same command ends at once" if num_left_out < num_samples else ""
    raise TooManyFaultsError(
        f"{destination}: {num_left_out} of {num_samples} samples cannot be used, more than the share "
        f"of {most_faults:g} that is allowed (--max-faults){advice}. All are in {FAULTS}; the first:\n"
        + "\n".join(f"  {entry.uri} ({entry.key}): {entry.reason}" for entry in left_out[:_SHOWN])
        + more
    )


def _catalog(
    destination: str, records: Sequence[Record], source: Catalog, firsts: np.ndarray
) -> tuple[Catalog, np.ndarray]:
    """All samples, those of whole row groups first, and their numbers in the source.

    A catalog counts its chunks from its start. A row group that lacks a sample would shift all behind it, and
    every later chunk would be read from two row groups instead of one.
    """
    filled = [record for record in records if record.shard is not None]
    places = pa.concat_tables([record.samples for record in filled])
    counts = [record.samples.num_rows for record in filled]
    shards = np.repeat(np.arange(len(filled), dtype=np.int32), counts)
    rows = places["row"].to_numpy()
    if rows[0] >= 0:
        starts = rows // ROWS_PER_GROUP * ROWS_PER_GROUP
        group_sizes = np.minimum(ROWS_PER_GROUP, np.repeat(counts, counts) - starts)
        chunk = int(group_sizes.max())
        order = np.argsort(group_sizes < chunk, kind="stable")
        places, shards = places.take(pa.array(order)), shards[order]
    else:
        median = max(1, int(np.median(places["length"].to_numpy())))
        chunk = min(MOST_NEIGHBOURS, max(1, READ_TOGETHER_BYTES // median))
    place, samples = _samples_at(places["sample"].to_numpy(), firsts)
    uris = [storage.join(destination, SHARDS, record.shard or "") for record in filled]
    columns = {name: source.table[name].take(pa.array(samples)) for name in source.table.column_names}
    columns |= {name: places[name].take(pa.array(place)) for name in _OF_PLACES}
    columns["uri"] = pa.DictionaryArray.from_arrays(pa.array(shards[place]), uris)
    table = pa.table(list(columns.values()), schema=source.table.schema)
    return Catalog(table.combine_chunks(), source.classes, chunk, source.origin), samples


def _samples_at(places: np.ndarray, firsts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each sample that lies at one of the places (named by their first samples): the index of its place, and
    its number; in the order of the places."""
    by_place = np.argsort(firsts, kind="stable")
    starts, ends = (np.searchsorted(firsts[by_place], places, side=side) for side in ("left", "right"))
    counts = ends - starts
    place = np.repeat(np.arange(len(places)), counts)
    within = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
    return place, by_place[starts[place] + within]
