"""Lists of files with labels, as the video benchmarks publish them.

One file per line, "path" or "path<delimiter>label", relative to the list's folder; the delimiter is found
out from the lines.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mae_dist import storage
from mae_dist.data.catalog import Catalog
from mae_dist.data.media import media_of
from mae_dist.data.readers.source import Request, Source, SourceError, names_up_to, number, read_text

DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "space": " "}
LIST_SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".list"})

_PATHS_LOOKED_AT = 3


class Entries(NamedTuple):
    """What a list says: paths as written, and labels as written or None if there are none."""

    paths: list[str]
    labels: list[str] | None


def read_list(source: Source, request: Request) -> Catalog:
    """The files that a list names."""
    if not source.is_file:
        raise SourceError(f"{source.uri}: is a folder; a list is a file of paths and labels")
    try:
        entries = parse_list(read_text(source.uri))
    except ValueError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{source.uri}: {error}") from error
    folder = source.uri.rpartition("/")[0] or "."
    uris = [
        path if path.startswith("/") or "://" in path else storage.join(folder, path)
        for path in entries.paths
    ]
    media = media_of(uris[0])
    assert media is not None, "parse_list returns nothing else"
    if any(media_of(uri) != media for uri in uris):
        raise SourceError(f"{source.uri}: lists both images and videos; a catalog has one of them")
    if not any(storage.exists(uri) for uri in uris[:_PATHS_LOOKED_AT]):
        raise SourceError(
            f"{source.uri}: the files it lists are not there; paths are relative to the folder of the list "
            f"(looked for {uris[0]})"
        )
    labels, classes = entries.labels, ()
    if labels is None:
        labels = [-1] * len(uris)
    elif all(label.lstrip("-").isdigit() for label in labels):
        labels = np.array(labels, dtype=np.int64)
        classes = names_up_to(source.uri, labels, None)
    else:
        labels, classes = number(labels)
    return Catalog.of(keys=entries.paths, uris=uris, media=media, labels=labels, classes=classes)


def parse_list(text: str) -> Entries:
    """Read a list. Empty lines and a heading are left out.

    A path must end like an image or a video, which is how a delimiter proves right: paths may hold spaces.
    Raises ValueError with the first line that does not fit.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("the list is empty")
    for delimiter in (None, *DELIMITERS.values()):
        split = [_split(line, delimiter) for line in lines]
        if split[0] is None and len(split) > 1 and delimiter is not None and delimiter in lines[0]:
            split = split[1:]
        entries = [entry for entry in split if entry is not None]
        if len(entries) == len(split):
            paths = [path for path, _ in entries]
            return Entries(paths, None if delimiter is None else [label for _, label in entries])
    raise ValueError(_complaint(lines))


def _split(line: str, delimiter: str | None) -> tuple[str, str] | None:
    """(path, label) of a line, or None if it has another form."""
    path, label = (
        (line, "") if delimiter is None else (part.strip() for part in line.rpartition(delimiter)[::2])
    )
    path, label = path.strip('"'), label.strip('"')
    if media_of(path) is None or (delimiter is not None and not label):
        return None
    return path, label


def _complaint(lines: list[str]) -> str:
    fitting = {
        delimiter: [_split(line, delimiter) is not None for line in lines]
        for delimiter in (None, *DELIMITERS.values())
    }
    best = max(fitting, key=lambda delimiter: sum(fitting[delimiter]))
    number = fitting[best].index(False)
    return (
        f"line {number + 1} of {len(lines)} does not fit: {lines[number][:200]!r}; a line is 'path' or "
        f"'path label' (separated by {', '.join(DELIMITERS)}), the same in all lines, with a path "
        f"that ends like .mp4 or .jpg"
    )
