"""From what lies at a place to a catalog: one reader per kind of source, in the table KINDS.

Only names, lists, footers, tar headers and labels are read; no image or video is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pyarrow as pa

from mae_dist import storage
from mae_dist.data.catalog import Catalog, metadata_of
from mae_dist.data.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES, suffix_of
from mae_dist.data.readers import ava, folds, kinetics, something
from mae_dist.data.readers.corruptions import read_corruptions
from mae_dist.data.readers.folders import read_images, read_videos
from mae_dist.data.readers.lists import LIST_SUFFIXES, read_list
from mae_dist.data.readers.parquet import read_parquet
from mae_dist.data.readers.source import Request, Source, SourceError, examples, look
from mae_dist.data.readers.tars import read_tars
from mae_dist.data.shards import read_footer

__all__ = ["KINDS", "Kind", "Request", "SourceError", "build_catalog", "is_catalog"]


class Kind(NamedTuple):
    """One kind of source."""

    read: Callable[[Source, Request], Catalog]
    what: str
    splits: tuple[str, ...] = ()
    """Parts of a public data set, one of which has to be named."""


KINDS: dict[str, Kind] = {
    "images": Kind(read_images, "a folder of images, one subfolder per class or flat (ImageNet, CIFAR)"),
    "videos": Kind(read_videos, "a folder of videos, likewise"),
    "corruptions": Kind(
        read_corruptions,
        "a folder of images as CORRUPTION/SEVERITY/CLASS/IMAGE (ImageNet-C, to be tested on)",
    ),
    "list": Kind(read_list, 'lines of "path" or "path label", separated by comma, tab, semicolon or space'),
    "shards": Kind(read_parquet, "Parquet files with a column of encoded images or videos"),
    "tars": Kind(read_tars, "WebDataset shards: tar files with images or videos, .cls or .json labels"),
    **{
        f"kinetics{classes}": Kind(
            partial(kinetics.read_kinetics, num_classes=classes),
            f"Kinetics-{classes}: clips and their CSV list",
            kinetics.SPLITS,
        )
        for classes in (400, 600, 700)
    },
    "something_v2": Kind(
        something.read_something,
        "Something-Something V2: clips, train.json or validation.json, labels.json",
        something.SPLITS,
    ),
    "ucf101": Kind(
        folds.read_ucf101, "UCF101: clips, trainlist01.txt and the like, classInd.txt", folds.SPLITS
    ),
    "hmdb51": Kind(folds.read_hmdb51, "HMDB51: clips, <class>_test_split1.txt and the like", folds.SPLITS),
    "ava": Kind(
        partial(ava.read_ava, begins_at_seconds=0),
        "AVA 2.2: movies, their keyframes with boxes and actions (for action detection)",
        ava.SPLITS,
    ),
    "ava_cut": Kind(
        partial(ava.read_ava, begins_at_seconds=900),
        "AVA 2.2, movies cut to what is annotated: from second 900 on, as SlowFast prepares them",
        ava.SPLITS,
    ),
}
_KINDS_IN_WORDS = (
    "a folder of images, of videos (flat, or one subfolder per class), of Parquet shards or of tar shards, "
    "or a list of paths (" + ", ".join(sorted(LIST_SUFFIXES)) + ")"
)


def build_catalog(source_uri: str, *, kind: str = "auto", request: Request | None = None) -> Catalog:
    """Catalog the samples at `source_uri` (a path or an s3:// URI).

    Raises SourceError if there is nothing, nothing of this kind, or an official list that cannot be used;
    ShardError for shards that are damaged or hold no samples; StorageError if the place cannot be reached.
    """
    request = Request() if request is None else request
    if kind != "auto" and kind not in KINDS:
        raise SourceError(f"a source is one of auto, {', '.join(KINDS)}, got {kind!r}")
    _check_split(kind, request)
    source = look(source_uri, request, kinds_in_words=_KINDS_IN_WORDS)
    return KINDS[_detect(source) if kind == "auto" else kind].read(source, request)


def is_catalog(uri: str) -> bool:
    """Whether a catalog lies at `uri`; False for anything else, and where there is nothing.

    Raises StorageError if the place cannot be reached.
    """
    try:
        footer, _ = read_footer(uri)
    except (pa.ArrowException, storage.StorageNotFoundError):
        return False
    except storage.StorageError as error:
        if isinstance(error.__cause__, IsADirectoryError):
            return False
        raise
    return metadata_of(footer.schema.to_arrow_schema()) is not None


def _check_split(kind: str, request: Request) -> None:
    splits = KINDS[kind].splits if kind in KINDS else ()
    if splits and request.split not in splits:
        given = "none was given" if request.split is None else f"got {request.split!r}"
        raise SourceError(f"the split of {kind} is one of {', '.join(splits)}; {given} (--split)")
    if not splits and (request.split or request.annotations):
        having = ", ".join(name for name, its in KINDS.items() if its.splits)
        raise SourceError(
            f"a split or annotations were given, but the kind {kind} has none; say which data set it is with "
            f"--kind, one of {having}"
        )


def _detect(source: Source) -> str:
    suffixes = [suffix_of(uri) for uri in source.uris]
    if source.is_file and suffixes and suffixes[0] in LIST_SUFFIXES:
        return "list"
    counts = {
        "shards": suffixes.count(".parquet"),
        "tars": suffixes.count(".tar"),
        "images": sum(suffix in IMAGE_SUFFIXES for suffix in suffixes),
        "videos": sum(suffix in VIDEO_SUFFIXES for suffix in suffixes),
    }
    kinds = [kind for kind, count in counts.items() if count]
    if len(kinds) == 1:
        return kinds[0]
    found = f"{len(suffixes)} files ({examples(source.uris)})" if suffixes else "hidden files only"
    if not kinds:
        raise SourceError(f"{source.uri}: holds {found}, but a source is {_KINDS_IN_WORDS}")
    raise SourceError(
        f"{source.uri}: holds " + " and ".join(f"{counts[kind]} {kind}" for kind in kinds) + "; name a "
        "folder with one of them, or say which with the kind " + " or ".join(kinds)
    )
