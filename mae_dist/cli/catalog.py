"""`mae-dist catalog build SOURCE OUT`: list the samples once, so that no run has to; beside it `audit`."""

from __future__ import annotations

import argparse
import sys

from mae_dist import storage
from mae_dist.cli import audit
from mae_dist.cli.progress import ProgressBars
from mae_dist.cli.source import SOURCE_ERRORS, add_source_arguments, request_of
from mae_dist.data.catalog import Catalog, Origin
from mae_dist.data.readers import build_catalog
from mae_dist.data.readers.official import difference
from mae_dist.data.sources import make_source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`build SOURCE OUT` or `audit SOURCE`, each with its options."""
    what = parser.add_subparsers(dest="what", required=True, metavar="build|audit")
    build = what.add_parser("build", help="list the samples of SOURCE in the Parquet file OUT")
    add_source_arguments(build)
    build.add_argument(
        "out", metavar="OUT", help="the catalog, as in k400.parquet or s3://bucket/k400.parquet"
    )
    build.set_defaults(call=_build)
    summary = "open every sample of SOURCE, and name what is corrupt, short, doubled or leaked"
    looking = what.add_parser("audit", help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    audit.add_arguments(looking)
    looking.set_defaults(call=audit.run)


def run(arguments: argparse.Namespace) -> int:
    """Do it; exit status 2 for a mistake in what was asked."""
    return arguments.call(arguments)


def _build(arguments: argparse.Namespace) -> int:
    """Build and save the catalog, print what it holds; 2 if nothing can be listed."""
    # A run may start elsewhere: what the catalog names must not depend on today's folder.
    source, out = storage.absolute(arguments.source), arguments.out
    storage.check_writable(out)
    folder, _, name = out.rpartition("/")
    with ProgressBars() as progress:
        index_uri = storage.join(folder or ".", f".{name}.index")
        request = request_of(
            arguments, index_uri=index_uri, exclude=storage.absolute(out), show=progress.show
        )
        try:
            if arguments.kind == "auto":
                catalog = make_source(source, work_folder=folder or ".", request=request)
            else:
                catalog = build_catalog(source, kind=arguments.kind, request=request)
        except SOURCE_ERRORS as error:
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
