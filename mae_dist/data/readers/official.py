"""Public data sets: from the names of an official list to the files that are there.

A video of such a list may have been re-encoded, sorted into other folders, or taken off the net. It is found
by its name without folder and ending; those that are not found are kept out, counted and named.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mae_dist import storage
from mae_dist.data.catalog import Catalog, Origin
from mae_dist.data.media import media_of, suffix_of
from mae_dist.data.readers.source import Request, Source, SourceError, examples, name_of
from mae_dist.storage import FileInfo

SPLIT_SIZES: dict[tuple[str, str], int] = {
    ("kinetics400", "train"): 240_436,
    ("kinetics400", "val"): 19_796,
    ("something_v2", "train"): 168_913,
    ("something_v2", "val"): 24_777,
    ("ucf101", "train1"): 9_537,
    ("ucf101", "test1"): 3_783,
    ("ucf101", "train2"): 9_586,
    ("ucf101", "test2"): 3_734,
    ("ucf101", "train3"): 9_624,
    ("ucf101", "test3"): 3_696,
    **{("hmdb51", f"train{split}"): 3_570 for split in (1, 2, 3)},
    **{("hmdb51", f"test{split}"): 1_530 for split in (1, 2, 3)},
}
"""Samples of each part as VideoMAE trains and tests on it (Tong et al. 2022, arXiv 2203.12602; its lists),
and of the other divisions as they were published."""

VIDEO_COUNTS: dict[tuple[str, str], int] = {("ava", "train"): 235, ("ava", "val"): 64}
"""Videos of data sets that have many samples in each (Gu et al. 2018, arXiv 1705.08421)."""

_LIST_SUFFIXES = {".csv", ".json", ".txt"}

log = logging.getLogger(__name__)


class Listed(NamedTuple):
    """One line of an official list."""

    name: str
    """The video's name without its ending, perhaps with its class folder: "Archery/v_Archery_g01_c01"."""
    label: int
    also: str = ""
    """Another name it may have; "" for none."""


def difference(origin: Origin | None, num_samples: int) -> str | None:
    """By how much a catalog differs from the part of the data set it was built as; None if it does not."""
    if origin is None:
        return None
    part, found, what = (origin.dataset, origin.split), num_samples, "samples"
    if part in VIDEO_COUNTS:
        found, what = origin.listed - len(origin.missing), "videos"
    expected = VIDEO_COUNTS.get(part) or SPLIT_SIZES.get(part)
    if expected in (None, found):
        return None
    more = found - expected
    return (
        f"{found:,} {what}, but {origin.split} of {origin.dataset} has {expected:,} where results are "
        f"published: {abs(more):,} {'more' if more > 0 else 'fewer'} ({more / expected:+.1%})"
    )


def catalog_of_listed(
    source: Source,
    listed: Sequence[Listed],
    *,
    list_uri: str,
    dataset: str,
    split: str,
    classes: Sequence[str],
) -> Catalog:
    """The listed videos that are there, in the order of the list.

    Raises SourceError if none is.
    """
    entries: dict[str, Listed] = {}
    for entry in listed:
        entries.setdefault(entry.name, entry)
    if len(entries) < len(listed):
        num_twice = len(listed) - len(entries)
        log.warning("%s: names %d videos twice; the first line of each counts", list_uri, num_twice)
    names = {name: (name, name_of(name), entry.also) for name, entry in entries.items()}
    found = find_videos(source, names, list_uri=list_uri, split=split)
    files, labels = list(found.values()), [entries[name].label for name in found]
    missing = [name for name in entries if name not in found]
    start = len(source.uri.rstrip("/")) + 1
    return Catalog.of(
        keys=[file.uri[start:] for file in files],
        uris=[file.uri for file in files],
        media="video",
        labels=labels,
        classes=classes,
        lengths=[file.size_bytes for file in files],
        origin=Origin(dataset, split, len(entries), tuple(missing)),
    )


def find_videos(
    source: Source, names: Mapping[str, Sequence[str]], *, list_uri: str, split: str
) -> dict[str, FileInfo]:
    """The file of each video that is there, in the order given; a video has one of several names.

    Raises SourceError if none is.
    """
    by_name = _by_name(source)
    candidates = {
        video: next((by_name[name] for name in its_names if name in by_name), None)
        for video, its_names in names.items()
    }
    found = {video: _in_split(files, split) for video, files in candidates.items() if files}
    if not found:
        videos = [file.uri for file in source.files if media_of(file.uri) == "video"]
        raise SourceError(
            f"{source.uri}: none of the {len(names):,} videos that {list_uri} names is there (such as "
            f"{next(iter(names), 'none')}); it holds {len(videos):,} videos ({examples(videos)})"
        )
    num_several = sum(files is not None and len(files) > 1 for files in candidates.values())
    if num_several:
        log.warning("%s: holds %d listed videos more than once; one of each counts", source.uri, num_several)
    return found


def find_annotations(source: Source, request: Request, names: Sequence[str], *, what: str) -> str:
    """The URI of the official file with one of these names: the one given, in the folder given, or among the
    files of the source.

    Raises SourceError if there is none, or several.
    """
    given = request.annotations
    if given is not None and suffix_of(given) in _LIST_SUFFIXES:
        storage.check_readable(given)
        return given
    if given is not None:
        found = [storage.join(given, name) for name in storage.list_dir(given) if name in names]
    else:
        found = [uri for uri in source.uris if name_of(uri) in names]
    where = given or source.uri
    if not found:
        raise SourceError(
            f"{where}: {what} is not there (looked for {', '.join(names)}); say where it is with "
            f"--annotations"
        )
    if len(found) > 1:
        raise SourceError(
            f"{where}: {what} is there {len(found)} times ({', '.join(found[:3])}); say which with "
            f"--annotations"
        )
    return found[0]


def _by_name(source: Source) -> dict[str, list[FileInfo]]:
    """The videos below the source by their name, and by their folder and name, both without the ending."""
    found: dict[str, list[FileInfo]] = defaultdict(list)
    for file in source.files:
        if media_of(file.uri) == "video":
            folder, _, name = file.uri.rpartition("/")
            stem = name.rpartition(".")[0]
            found[stem].append(file)
            found[f"{name_of(folder)}/{stem}"].append(file)
    return found


def _in_split(found: Sequence[FileInfo], split: str) -> FileInfo:
    """Of several files of one name the one in the folder of the split, else the first."""
    return next((file for file in found if f"/{split}/" in file.uri), found[0])
