"""A folder of images or videos: one subfolder per class, or flat and unlabelled."""

from __future__ import annotations

from mae_dist.data.catalog import Catalog
from mae_dist.data.media import media_of
from mae_dist.data.readers.source import Request, Source, SourceError, examples, name_of, number


def read_images(source: Source, request: Request) -> Catalog:
    """The images below a folder, or one image."""
    return _read(source, "image")


def read_videos(source: Source, request: Request) -> Catalog:
    """The videos below a folder, or one video."""
    return _read(source, "video")


def _read(source: Source, media: str) -> Catalog:
    files = [file for file in source.files if media_of(file.uri) == media]
    if not files:
        raise SourceError(f"{source.uri}: no {media} file; found {examples(source.uris)}")
    start = len(source.uri.rstrip("/")) + 1
    names = [name_of(file.uri) if source.is_file else file.uri[start:] for file in files]
    flat = [name for name in names if "/" not in name]
    if flat and len(flat) < len(names):
        nested = next(name for name in names if "/" in name)
        raise SourceError(
            f"{source.uri}: {len(flat)} {media} file(s) lie directly in it (such as {flat[0]}) and "
            f"{len(names) - len(flat)} in subfolders (such as {nested}); it must be either one subfolder per "
            f"class or flat"
        )
    labels, classes = ([-1] * len(names), ()) if flat else number([name.split("/")[0] for name in names])
    return Catalog.of(
        keys=names,
        uris=[file.uri for file in files],
        media=media,
        labels=labels,
        classes=classes,
        lengths=[file.size_bytes for file in files],
    )
