"""What kind of medium a file holds, by its name."""

from __future__ import annotations

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".npy"}
)
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mkv", ".webm", ".avi", ".mov", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp", ".ogv"}
)


def suffix_of(uri: str) -> str:
    """The ending of a file's name in lower case, with its dot; "" if it has none."""
    stem, dot, suffix = uri.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def media_of(uri: str) -> str | None:
    """ "image", "video", or None for any other file."""
    suffix = suffix_of(uri)
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else None
