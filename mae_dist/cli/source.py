"""What a command line says about where samples lie: SOURCE, its kind, its split."""

from __future__ import annotations

import argparse

from mae_dist import storage
from mae_dist.data.catalog import CatalogError
from mae_dist.data.readers import KINDS, Request, SourceError
from mae_dist.data.readers.source import Show
from mae_dist.data.shards import ShardError

SOURCE_ERRORS = (SourceError, ShardError, CatalogError)
"""What a user can put right."""


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE [--kind KIND] [--split SPLIT] [--annotations WHERE], with the kinds below the help."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "kinds of sources:\n" + "\n".join(
        f"  {name:<14}{kind.what}" + (f"\n{'':16}split: {', '.join(kind.splits)}" if kind.splits else "")
        for name, kind in KINDS.items()
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="folder of images, of videos (flat or one subfolder per class), of Parquet shards or of tar "
        "shards, a pattern of shards, or a list of paths and labels; local or s3://...",
    )
    parser.add_argument(
        "--kind", choices=("auto", *KINDS), default="auto", metavar="KIND", help="what SOURCE holds (below)"
    )
    parser.add_argument("--split", help="which part of a public data set")
    parser.add_argument(
        "--annotations",
        metavar="WHERE",
        help="its official list, or the folder of its lists, where they are not in SOURCE",
    )


def request_of(
    arguments: argparse.Namespace, *, show: Show, index_uri: str | None = None, exclude: str | None = None
) -> Request:
    """What of SOURCE is to be listed."""
    return Request(
        split=arguments.split,
        annotations=arguments.annotations and storage.absolute(arguments.annotations),
        index_uri=index_uri,
        exclude=exclude,
        show=show,
    )
