"""Kinetics-400, -600 and -700: clips cut from YouTube, listed in CSV files.

A list has the columns label (not in the test lists), youtube_id, time_start, time_end (seconds) and mostly
split. The clip of a line is called <youtube_id>_<start, six digits>_<end, six digits>, or just <youtube_id>.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

from mae_dist.data.catalog import Catalog
from mae_dist.data.readers.official import Listed, catalog_of_listed, find_annotations
from mae_dist.data.readers.source import Request, Source, SourceError, number, read_text

SPLITS = ("train", "val", "test")
_NAMES_OF_SPLIT = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
_NEEDED = ("youtube_id", "time_start", "time_end")


def read_kinetics(source: Source, request: Request, *, num_classes: int) -> Catalog:
    """One split; labels number all class names of the list in alphabetical order."""
    assert request.split is not None
    dataset = f"kinetics{num_classes}"
    stems = _NAMES_OF_SPLIT[request.split]
    names = [f"{stem}{name}.csv" for stem in ("", f"{dataset}_", "kinetics_") for name in stems]
    names += [f"{dataset}_{name}_list.csv" for name in stems]
    list_uri = find_annotations(source, request, names, what=f"the list of {request.split}")
    lines = list(_lines(list_uri, request.split))
    labels, classes = number([label for _, _, label in lines])
    if classes and len(classes) != num_classes:
        raise SourceError(
            f"{list_uri}: names {len(classes)} classes in {request.split}, {dataset} has {num_classes}; "
            f"labels are numbered over all of them, so the whole list is needed (or another kind)"
        )
    listed = [Listed(name, int(label), also) for (name, also, _), label in zip(lines, labels, strict=True)]
    return catalog_of_listed(
        source, listed, list_uri=list_uri, dataset=dataset, split=request.split, classes=classes
    )


def _lines(list_uri: str, split: str) -> Iterator[tuple[str, str, str | None]]:
    """(name, other name, label) of every line of the split."""
    rows = csv.DictReader(read_text(list_uri).splitlines())
    columns = rows.fieldnames or []
    if any(name not in columns for name in _NEEDED):
        raise SourceError(
            f"{list_uri}: is no list of Kinetics: its columns are {', '.join(columns) or 'none'}; it needs "
            f"{', '.join(_NEEDED)}, and mostly has label and split"
        )
    splits = set()
    num_yielded = 0
    for row in rows:
        splits.add(row.get("split") or split)
        if (row.get("split") or split) not in _NAMES_OF_SPLIT[split]:
            continue
        try:
            start, end = int(float(row["time_start"])), int(float(row["time_end"]))
        except (TypeError, ValueError):
            raise SourceError(
                f"{list_uri}: line {rows.line_num}: time_start and time_end must be seconds, got "
                f"{row['time_start']!r} and {row['time_end']!r}"
            ) from None
        video = row["youtube_id"]
        num_yielded += 1
        yield f"{video}_{start:06d}_{end:06d}", video, row.get("label") or None
    if not num_yielded:
        found = ", ".join(sorted(splits)) or "no line at all"
        raise SourceError(f"{list_uri}: lists nothing of {split}; found {found}")
