"""Which classes of one data set are which of another: test sets seldom number theirs as those trained on."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from mae_dist.data.readers.source import SourceError, read_text

_SHOWN = 3


def read_class_names(uri: str) -> dict[str, str]:
    """The pairs of a CSV file, "name there,name here" in each line.

    Raises SourceError for a line that is no pair, and for a name that is given twice; StorageError if the
    file cannot be read.
    """
    names: dict[str, str] = {}
    for line, row in enumerate(csv.reader(io.StringIO(read_text(uri))), start=1):
        if not row:
            continue
        if len(row) != 2 or not all(row):
            raise SourceError(f"{uri}: line {line} is {','.join(row)!r}; it must be name there,name here")
        there, here = (name.strip() for name in row)
        if there in names:
            raise SourceError(f"{uri}: line {line} names {there!r} for the second time")
        names[there] = here
    return names


def trained_numbers(
    theirs: Sequence[str], trained: Sequence[str], names: Mapping[str, str] | None = None
) -> np.ndarray:
    """For each class of a test set its number among the trained ones, int64 (classes of the set,).

    `names` says which trained class one is that has another name. Raises SourceError, with what would help,
    if classes were not trained, or two of them are the same.
    """
    numbers = {name: number for number, name in enumerate(trained)}
    called = [(names or {}).get(name, name) for name in theirs]
    unknown = [name for name in called if name not in numbers]
    if unknown:
        raise SourceError(
            f"{len(unknown)} of its {len(theirs)} classes were not trained ({_some(unknown)}; trained were "
            f"{_some(trained)}); classes that are called otherwise are named in class_names"
        )
    if len(set(called)) < len(called):
        twice = next(name for number, name in enumerate(called) if name in called[:number])
        raise SourceError(f"two of its classes are the trained class {twice!r}")
    return np.array([numbers[name] for name in called], dtype=np.int64)


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
