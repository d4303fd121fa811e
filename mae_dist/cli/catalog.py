"""`mae-dist catalog build SOURCE OUT`: list the samples once, so that no run has to."""

from __future__ import annotations

import argparse
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mae_dist import storage
from mae_dist.data.catalog import Catalog, CatalogError, Origin
from mae_dist.data.readers import KINDS, Request, SourceError, build_catalog
from mae_dist.data.readers.official import difference
from mae_dist.data.shards import ShardError
from mae_dist.data.sources import make_source

_PATIENCE_SECONDS = 2.0
"""Progress is shown of what takes longer than this."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`build SOURCE OUT [--kind KIND] [--split SPLIT] [--annotations WHERE]`."""
    what = parser.add_subparsers(dest="what", required=True, metavar="build")
    build = what.add_parser(
        "build",
        help="list the samples of SOURCE in the Parquet file OUT",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="kinds of sources:\n"
        + "\n".join(
            f"  {name:<14}{kind.what}" + (f"\n{'':16}split: {', '.join(kind.splits)}" if kind.splits else "")
            for name, kind in KINDS.items()
        ),
    )
    build.add_argument(
        "source",
        metavar="SOURCE",
        help="folder of images, of videos (flat or one subfolder per class), of Parquet shards or of tar "
        "shards, a pattern of shards, or a list of paths and labels; local or s3://...",
    )
    build.add_argument(
        "out", metavar="OUT", help="the catalog, as in k400.parquet or s3://bucket/k400.parquet"
    )
    build.add_argument(
        "--kind", choices=("auto", *KINDS), default="auto", metavar="KIND", help="what SOURCE holds (below)"
    )
    build.add_argument("--split", help="which part of a public data set")
    build.add_argument(
        "--annotations",
        metavar="WHERE",
        help="its official list, or the folder of its lists, where they are not in SOURCE",
    )


def run(arguments: argparse.Namespace) -> int:
    """Build and save the catalog, print what it holds; 2 if nothing can be listed."""
    # A run may start elsewhere: what the catalog names must not depend on today's folder.
    source, out = storage.absolute(arguments.source), arguments.out
    storage.check_writable(out)
    folder, _, name = out.rpartition("/")
    with _Progress() as progress:
        request = Request(
            split=arguments.split,
            annotations=arguments.annotations and storage.absolute(arguments.annotations),
            index_uri=storage.join(folder or ".", f".{name}.index"),
            exclude=storage.absolute(out),
            show=progress.show,
        )
        try:
            if arguments.kind == "auto":
                catalog = make_source(source, work_folder=folder or ".", request=request)
            else:
                catalog = build_catalog(source, kind=arguments.kind, request=request)
        except (SourceError, ShardError, CatalogError) as error:
            print(error, file=sys.stderr)
            return 2
    catalog.save(out)
    for name, fact in _facts(catalog, out).items():
        print(f"{name:<9}{fact}")
    return 0


def _facts(catalog: Catalog, out: str) -> dict[str, str]:
    has_boxes = "boxes" in catalog.table.column_names  # and the labels are theirs
    num_unlabelled = 0 if has_boxes else int((catalog.table["label"].to_numpy() < 0).sum())
    facts = {
        "samples": f"{catalog.num_samples}" + f", {num_unlabelled} without a label" * (num_unlabelled > 0),
        "classes": f"{catalog.num_classes}{_named(catalog.classes)}",
    }
    if has_boxes:
        facts["boxes"] = f"{sum(len(boxes) for boxes in catalog.table['boxes'])}"
    if catalog.origin is not None and catalog.origin.missing:
        facts["missing"] = _missing(catalog.origin, f"{out}.missing.txt")
    differs = difference(catalog.origin, catalog.num_samples)
    if differs is not None:
        facts["warning"] = differs
    return facts | {"digest": catalog.digest, "catalog": out}


def _missing(origin: Origin, where: str) -> str:
    """What of the official list is not there, all of it in a file of its own."""
    storage.write_bytes(where, "".join(f"{name}\n" for name in origin.missing).encode())
    num_missing = len(origin.missing)
    return (
        f"{num_missing} of {origin.listed} listed ({num_missing / origin.listed:.1%}), such as "
        f"{', '.join(origin.missing[:3])}; kept out, all named in {where}"
    )


def _named(classes: tuple[str, ...]) -> str:
    """The first few names, where there are any to tell apart from numbers."""
    if not classes or all(name.isdigit() for name in classes):
        return ""
    return f" ({', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''})"


class _Progress:
    """A bar on the terminal for what has taken a while."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._began = time.monotonic()
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tasks:
            self._bars.stop()

    def show(self, what: str, done: int, total: int | None) -> None:
        """So many of `what` are done."""
        if time.monotonic() - self._began < _PATIENCE_SECONDS:
            return
        if not self._tasks:
            self._bars.start()
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)
