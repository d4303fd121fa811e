"""Boxes that a detector of people found in keyframes, to be judged in the test of action detection.

    -5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,,0.995     video, second, corners x1 y1 x2 y2 in parts of the
                                                        frame, nothing or an action, score

This is the form in which person boxes for AVA are published (an action there is a stand-in) and in which
results for it are handed in.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from mae_dist.config.detection import DetectionConfig
from mae_dist.data.boxes import CORNERS
from mae_dist.data.catalog import BOX, Catalog
from mae_dist.data.readers.source import SourceError, read_text

Found = tuple[float, float, float, float, float]
"""Corners x1, y1, x2, y2 and score of one person."""
People = Mapping[str, Sequence[Found]]
"""By the key of a keyframe, as catalogs have it: "video/0902"."""

_LARGEST_CORNER = 2.0
"""Boxes may leave the frame a little; what lies beyond this was counted in pixels."""


def read_people(uri: str, *, min_score: float) -> dict[str, list[Found]]:
    """The boxes of at least this score, keyframe by keyframe, in the order of the file.

    Raises SourceError with the line that is no such box, or if no box is left; StorageError if it cannot be
    read.
    """
    people: dict[str, list[Found]] = {}
    num_lines = 0
    for key, values in _lines(uri, "four corners, an action or nothing, and a score", (7, 8)):
        num_lines += 1
        x1, y1, x2, y2, score = (float(value) for value in (*values[:4], values[-1]))
        if max(x2, y2) > _LARGEST_CORNER:
            raise SourceError(
                f"{uri}: {key}: a corner at {max(x2, y2):g}; corners are in parts of the frame's width and "
                f"height, from 0 to 1"
            )
        if score >= min_score:
            people.setdefault(key, []).append((x1, y1, x2, y2, score))
    if not people:
        raise SourceError(f"{uri}: none of its {num_lines} boxes has a score of {min_score:g} or more")
    return people


def read_excluded(uri: str) -> frozenset[str]:
    """Keys of the keyframes in a list of `video,second`; raises as `read_people`."""
    return frozenset(key for key, _ in _lines(uri, "nothing else", (2,)))


def true_people(catalog: Catalog) -> dict[str, list[Found]]:
    """The true boxes of a catalog of keyframes as if they had been found, with a score of 1."""
    rows = catalog.rows(np.arange(catalog.num_samples))
    return {row.key: [(*(box[name] for name in CORNERS), 1.0) for box in row.boxes or []] for row in rows}


def people_of(catalog: Catalog, detection: DetectionConfig) -> dict[str, list[Found]]:
    """Whom a test judges: those in the config's file, or else in the true boxes of the test catalog."""
    if detection.boxes is None:
        return true_people(catalog)
    return read_people(detection.boxes, min_score=detection.min_score)


def excluded_of(detection: DetectionConfig) -> frozenset[str]:
    """Keys of the keyframes that a test leaves out."""
    return frozenset() if detection.excluded is None else read_excluded(detection.excluded)


def judged_keyframes(catalog: Catalog, people: People, excluded: frozenset[str] = frozenset()) -> Catalog:
    """The keyframes of the catalog's videos in which people were found, each with their boxes in that order.

    Those are also keyframes that the catalog does not have because nobody in them does anything: what is
    detected there is wrong, and the official evaluation counts it. The boxes have no labels. Raises
    SourceError if there is no such keyframe.
    """
    keys = catalog.table["key"].to_pylist()
    times = catalog.table["time"].to_pylist()
    first_row: dict[str, int] = {}
    for number, key in enumerate(keys):
        first_row.setdefault(_video(key), number)
    wanted = [key for key in people if _video(key) in first_row and key not in excluded]
    if not wanted:
        raise SourceError(
            f"people were found in {len(people)} keyframes (as {next(iter(people))}), but in none of the "
            f"test catalog's videos (as {_video(keys[0])}); is it the file of another split?"
        )
    wanted.sort(key=lambda key: (first_row[_video(key)], key))
    rows = [first_row[_video(key)] for key in wanted]
    seconds = [times[row] + _second(key) - _second(keys[row]) for row, key in zip(rows, wanted, strict=True)]
    boxes = [
        [dict(zip(CORNERS, box[:4], strict=True)) | {"person": -1, "labels": []} for box in people[key]]
        for key in wanted
    ]
    table = catalog.table.take(pa.array(rows))
    columns = {
        "key": pa.array(wanted, pa.string()),
        "time": pa.array(seconds, pa.float64()),
        "boxes": pa.array(boxes, pa.list_(pa.field("item", BOX, nullable=False))),
    }
    for name, column in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, table.schema.field(name), column)
    return Catalog(table, catalog.classes, catalog.chunk, catalog.origin)


def _video(key: str) -> str:
    return key.rpartition("/")[0]


def _second(key: str) -> int:
    return int(key.rpartition("/")[2])


def _lines(uri: str, what: str, num_values: tuple[int, ...]) -> Iterator[tuple[str, list[str]]]:
    """Key of the keyframe of every line, and what stands behind it."""
    rows = csv.reader(read_text(uri).splitlines())
    for values in rows:
        if not values:
            continue
        try:
            if len(values) not in num_values:
                raise ValueError(f"{len(values)} values")
            second = int(values[1])
            if len(values) > 2:
                [float(value) for value in (*values[2:6], values[-1])]
        except ValueError:
            raise SourceError(
                f"{uri}: line {rows.line_num}: {','.join(values)[:80]!r}; a line is a video, a second, {what}"
            ) from None
        yield f"{values[0]}/{second:04d}", values[2:]
