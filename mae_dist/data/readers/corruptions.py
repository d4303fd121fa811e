"""Test images in several corrupted versions: CORRUPTION/SEVERITY/CLASS/IMAGE below a folder (ImageNet-C)."""

from __future__ import annotations

import re

from mae_dist.data.catalog import Catalog
from mae_dist.data.media import media_of
from mae_dist.data.readers.source import Request, Source, SourceError, examples, number

_PATH = re.compile(r"(?:.*/)?(?P<corruption>[^/]+)/(?P<severity>[1-9])/(?P<label>[^/]+)/[^/]+")


def read_corruptions(source: Source, request: Request) -> Catalog:
    """The images below a folder; those of one archive may have a folder around them (noise, blur, ...).

    Raises SourceError if there is none, or one that lies elsewhere.
    """
    files = [file for file in source.files if media_of(file.uri) == "image"]
    if not files:
        raise SourceError(f"{source.uri}: no image file; found {examples(source.uris)}")
    start = len(source.uri.rstrip("/")) + 1
    names = [file.uri[start:] for file in files]
    labels, classes = number([_match(source, name)["label"] for name in names])
    return Catalog.of(
        keys=names,
        uris=[file.uri for file in files],
        media="image",
        labels=labels,
        classes=classes,
        lengths=[file.size_bytes for file in files],
    )


def corruption_of(key: str) -> tuple[str, int] | None:
    """(corruption, severity) of a sample by its key in such a catalog; None for a sample of another kind."""
    match = _PATH.fullmatch(key)
    return None if match is None else (match["corruption"], int(match["severity"]))


def _match(source: Source, name: str) -> re.Match[str]:
    match = _PATH.fullmatch(name)
    if match is None:
        raise SourceError(
            f"{source.uri}: {name} does not lie in CORRUPTION/SEVERITY/CLASS, such as "
            f"gaussian_noise/3/n01440764/{name.rpartition('/')[2]}"
        )
    return match
