"""What lies at the place a catalog is to be made of, and what every reader of it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch

import numpy as np

from mae_dist import storage
from mae_dist.data.media import media_of
from mae_dist.storage import FileInfo

Show = Callable[[str, int, int | None], None]
"""Called with (what is being done, how many of it are done, of how many if that is known)."""

_SHOWN_EVERY = 1000


class SourceError(ValueError):
    """A source holds nothing that can be catalogued; the message says what was looked for and found."""


def show_nothing(what: str, done: int, total: int | None) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user may say beside the place of the samples."""

    split: str | None = None
    """Part of a public data set, one of those of its kind."""
    annotations: str | None = None
    """Where its official lists are; None: beside the samples."""
    index_uri: str | None = None
    """Where to keep what was read of each shard, so that only changed ones are read the next time."""
    exclude: str | None = None
    """A file that is no sample: the catalog itself, which may lie in the folder it lists."""
    show: Show = field(default=show_nothing)


@dataclass(frozen=True)
class Source:
    """What was found at a URI: whether it is one file, and the visible files below it, sorted."""

    uri: str
    is_file: bool
    files: Sequence[FileInfo]

    @property
    def uris(self) -> list[str]:
        """The URIs of the files."""
        return [file.uri for file in self.files]


def look(source_uri: str, request: Request, *, kinds_in_words: str) -> Source:
    """List what is at `source_uri`: a folder, a file, or a pattern of files in a folder.

    Raises SourceError if there is nothing, StorageError if the place cannot be reached.
    """
    folder, _, pattern = source_uri.rpartition("/")
    has_pattern = "*" in pattern
    walked = storage.walk_files((folder or ".") if has_pattern else source_uri)
    found = list(_counted(walked, request.show))
    if has_pattern:
        found = [info for info in found if fnmatch(name_of(info.uri), pattern)]
    if not found:
        nothing = "matches it" if has_pattern else "is there, or the folder is empty"
        raise SourceError(f"{source_uri}: nothing {nothing}; a source is {kinds_in_words}")
    is_file = not has_pattern and [_plain(info.uri) for info in found] == [_plain(source_uri)]
    own = request.exclude and _plain(request.exclude)
    visible = [info for info in found if not _is_hidden(name_of(info.uri)) and _plain(info.uri) != own]
    return Source((folder or ".") if has_pattern else source_uri, is_file, visible)


def read_text(uri: str) -> str:
    """A list or an annotation file as text; SourceError if it is none."""
    try:
        return storage.read_bytes(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{uri}: is not text in UTF-8 (byte {error.start})") from error


def number(names: Sequence[str | None]) -> tuple[np.ndarray, Sequence[str]]:
    """Number class names in alphabetical order, as torchvision's ImageFolder does; None is -1."""
    classes = sorted({name for name in names if name is not None})
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([-1 if name is None else numbers[name] for name in names], dtype=np.int64), classes


def names_up_to(uri: str, labels: np.ndarray, names: Sequence[str] | None) -> Sequence[str]:
    """Class names for labels that are numbers already: those given, else the numbers."""
    if labels.min() < -1:
        raise SourceError(f"{uri}: label {labels.min()}; a label is 0 or more, or -1 for unknown")
    if names is None:
        return tuple(str(number) for number in range(int(labels.max()) + 1))
    if labels.max() >= len(names):
        raise SourceError(f"{uri}: label {labels.max()}, but only {len(names)} classes are named")
    return names


def name_of(uri: str) -> str:
    """The last part of a URI."""
    return uri.rstrip("/").rpartition("/")[2]


def examples(uris: Sequence[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(name_of(uri) for uri in uris[:3]) + (", ..." if len(uris) > 3 else "") or "nothing"


def _is_hidden(name: str) -> bool:
    """Names beginning with a dot, and what writers of shards leave beside them (_SUCCESS, _metadata).

    A video may well begin with an underscore: one of 64 identifiers of YouTube does.
    """
    return name.startswith(".") or (name.startswith("_") and media_of(name) is None)


def _plain(uri: str) -> str:
    return uri.removeprefix("file://").rstrip("/")


def _counted(files: Iterator[FileInfo], show: Show) -> Iterator[FileInfo]:
    for number_of_file, info in enumerate(files, start=1):
        if not number_of_file % _SHOWN_EVERY:
            show("files found", number_of_file, None)
        yield info
