"""What a recipe may name as its samples: a catalog, something to be listed, or a set that is drawn; and what
becomes of several of them.

runs/k400.parquet                 a catalog made before
s3://bucket/videos, list.csv      listed by readers/
drawn://moving_clips?samples=600&seed=1   drawn and encoded by the run itself
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, urlsplit

from mae_dist import storage
from mae_dist.config.schema import SourceConfig
from mae_dist.data.catalog import Catalog
from mae_dist.data.glyphs import write_glyphs
from mae_dist.data.mix import Mix
from mae_dist.data.readers import Request, SourceError, build_catalog, is_catalog
from mae_dist.data.synthetic import write_moving_clips

DRAWN: dict[str, Callable[[str, int, int], str]] = {
    "moving_clips": write_moving_clips,
    "glyphs": write_glyphs,
}
"""Name -> writer of (folder_uri, num_samples, seed), which returns what is to be listed."""


def is_drawn(source: str) -> bool:
    """Whether the run makes these samples itself."""
    return source.startswith("drawn://")


def num_drawn(source: str) -> int:
    """Samples of a drawn set. Raises SourceError if there is no such drawing."""
    return _drawing(source)[1]


def open_source(source: str, request: Request | None = None, *, kind: str = "auto") -> Catalog:
    """The catalog of a source that exists already; `kind` is one of readers.KINDS. Raises CatalogError,
    SourceError, ShardError or StorageError."""
    if is_drawn(source):
        raise ValueError(f"{source} has to be drawn first")
    if "*" not in source:  # a pattern, which only its reader can look for
        storage.check_readable(source)
    return Catalog.load(source) if is_catalog(source) else build_catalog(source, kind=kind, request=request)


def identify(source: str, *, kind: str = "auto") -> tuple[str, Catalog | None]:
    """What stands for the samples in a run's digest, and their catalog where they exist already.

    The first is the catalog's digest, or says how they are drawn. Raises as `open_source`, and SourceError
    for a drawn set that does not exist.
    """
    if is_drawn(source):
        name, samples, seed = _drawing(source)
        return f"drawn {name} samples={samples} seed={seed}", None
    catalog = open_source(source, kind=kind)
    return catalog.digest, catalog


def make_source(
    source: str, *, work_folder: str, request: Request | None = None, kind: str = "auto"
) -> Catalog:
    """The catalog of any source; a drawn set is written into `work_folder`/samples first."""
    if not is_drawn(source):
        return open_source(source, request, kind=kind)
    name, samples, seed = _drawing(source)
    folder = storage.join(work_folder, "samples")
    return build_catalog(DRAWN[name](folder, samples, seed))


def make_mix(sources: Mapping[str, SourceConfig], *, work_folder: str) -> Mix:
    """The mix of these sources; each is made as by `make_source`, in a folder of its own."""
    catalogs = {
        name: make_source(source.catalog, work_folder=storage.join(work_folder, name))
        for name, source in sources.items()
    }
    return Mix.of(catalogs, {name: source.weight for name, source in sources.items()})


def _drawing(source: str) -> tuple[str, int, int]:
    parts = urlsplit(source)
    options = dict(parse_qsl(parts.query))
    try:
        if parts.netloc not in DRAWN or options.keys() - {"samples", "seed"}:
            raise KeyError(parts.netloc)
        samples, seed = int(options["samples"]), int(options.get("seed", "0"))
        if samples < 1 or seed < 0:
            raise ValueError(source)
        return parts.netloc, samples, seed
    except (KeyError, ValueError):
        known = ", ".join(sorted(DRAWN))
        raise SourceError(
            f"{source}: no such drawing; give drawn://NAME?samples=NUMBER&seed=NUMBER, NAME one of {known}"
        ) from None
