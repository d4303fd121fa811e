"""`mae-dist catalog audit SOURCE`: open every sample, and name what is wrong with which of them."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from mae_dist import storage
from mae_dist.cli.progress import ProgressBars
from mae_dist.cli.source import SOURCE_ERRORS, add_source_arguments, request_of
from mae_dist.data.catalog import Catalog
from mae_dist.data.readers import Request, SourceError, build_catalog
from mae_dist.data.readers.source import Show
from mae_dist.data.sources import is_drawn, open_source

if TYPE_CHECKING:
    from mae_dist.data.audit.repeats import Leak

PROBLEMS = ("corrupt", "short", "duplicates", "conflicts", "leaks")
MIN_FRAMES = 16
"""Of the clips that VideoMAE is trained on."""


class AuditError(RuntimeError):
    """The samples cannot be looked at here, for a reason that is not theirs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, how far to look, what to compare with and what to write."""
    add_source_arguments(parser)
    parser.add_argument(
        "--decode", action="store_true", help="decode every frame; else headers and packets are read"
    )
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="OTHER",
        help="another catalog or source; samples that are in both are leaks (may be given again)",
    )
    parser.add_argument(
        "--min-frames",
        type=int,
        default=MIN_FRAMES,
        metavar="N",
        help="a video of fewer frames is short (%(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the summary, with every problem, as JSON")
    parser.add_argument("--samples", metavar="FILE", help="write one row per sample as Parquet")
    parser.add_argument(
        "--write",
        metavar="CATALOG",
        help="write the catalog with lengths, sha256, frames and rates, which reading then checks",
    )
    parser.add_argument("--drop-corrupt", action="store_true", help="leave corrupt samples out of CATALOG")
    parser.add_argument(
        "--fail-on",
        action="append",
        default=[],
        choices=PROBLEMS,
        help="exit with status 1 if there are any (may be given again)",
    )


def run(arguments: argparse.Namespace) -> int:
    """0 when every sample was looked at, 1 if a problem of `--fail-on` was found, 2 if it cannot be done.

    Corrupt samples alone do not fail it: they are what an audit is for, and training replaces them.
    """
    if arguments.drop_corrupt and not arguments.write:
        print("--drop-corrupt says what is left out of a catalog: name it with --write", file=sys.stderr)
        return 2
    for out in (arguments.json, arguments.samples, arguments.write):
        if out is not None:
            storage.check_writable(out)
    try:
        with ProgressBars() as progress:
            catalog = _open(arguments.source, arguments.kind, request_of(arguments, show=progress.show))
            others = {uri: _open(uri, "auto", Request(show=progress.show)) for uri in arguments.against}
            findings, leaks = _look(catalog, others, decode=arguments.decode, show=progress.show)
        return _tell(arguments, catalog, findings, leaks)
    except (*SOURCE_ERRORS, AuditError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _open(uri: str, kind: str, request: Request) -> Catalog:
    if is_drawn(uri):
        raise SourceError(f"{uri}: is drawn by the run that wants it; name a source that exists")
    source = storage.absolute(uri)  # workers stand in other folders
    if kind == "auto":
        return open_source(source, request)
    return build_catalog(source, kind=kind, request=request)


def _look(
    catalog: Catalog, others: Mapping[str, Catalog], *, decode: bool, show: Show
) -> tuple[pa.Table, dict[str, tuple[Catalog, Leak]]]:
    """With all CPUs of the cluster: FINDINGS, and what other catalogs, by URI, have in common with it."""
    # Torch and Ray take seconds to load; a source that is not there is told without them.
    from mae_dist.data.audit.facts import FactSpec
    from mae_dist.data.audit.findings import audit
    from mae_dist.data.audit.repeats import leak
    from mae_dist.data.decoder import DecoderError
    from mae_dist.data.spread import spread
    from mae_dist.orchestrate import cluster

    print("joining the cluster ..." if cluster.is_cluster_running() else "starting Ray ...", file=sys.stderr)
    try:
        cluster.connect()
        findings = audit(catalog, FactSpec(decode=decode), spread=spread, show=show)
        leaks = {uri: (its, leak(findings, its, spread=spread, show=show)) for uri, its in others.items()}
    except (cluster.ClusterError, DecoderError) as error:
        raise AuditError(str(error)) from error
    return findings, leaks


def _tell(
    arguments: argparse.Namespace,
    catalog: Catalog,
    findings: pa.Table,
    leaks: Mapping[str, tuple[Catalog, Leak]],
) -> int:
    """Write and print what was found; the exit status."""
    from mae_dist.cli.audit_page import print_page
    from mae_dist.data.audit.filling import filled
    from mae_dist.data.audit.summary import per_sample, summarise

    summary = summarise(
        catalog,
        findings,
        uri=arguments.source,
        decoded=arguments.decode,
        min_frames=arguments.min_frames,
        others=leaks,
    )
    written = {}
    if arguments.json:
        storage.write_bytes(arguments.json, json.dumps(summary, indent=2, allow_nan=False).encode())
        written["as data"] = arguments.json
    if arguments.samples:
        pq.write_table(per_sample(catalog, findings), file := io.BytesIO(), compression="zstd")
        storage.write_bytes(arguments.samples, file.getvalue())
        written["samples"] = arguments.samples
    print_page(Console(), summary, written)
    if arguments.write:
        anew = filled(catalog, findings, drop_corrupt=arguments.drop_corrupt)
        anew.save(arguments.write)
        print(f"{'catalog':<12}{arguments.write} ({anew.num_samples:,} samples, digest {anew.digest})")
    return int(any(summary["num_problems"][problem] for problem in arguments.fail_on))
