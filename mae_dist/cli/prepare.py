"""`mae-dist prepare SOURCE DESTINATION`: write a data set once more, so that it is decoded quickly."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch

from mae_dist import storage
from mae_dist.cli.progress import ProgressBars
from mae_dist.cli.source import SOURCE_ERRORS
from mae_dist.data.catalog import Catalog
from mae_dist.data.decoder import DecoderError
from mae_dist.data.limits import DecodeError
from mae_dist.data.prepare import Comparison, Outcome, PrepareError, Settings, TooManyFaultsError, prepare
from mae_dist.data.prepare.comparison import COMPARISON, compare, save
from mae_dist.data.prepare.division import Part
from mae_dist.data.prepare.outcome import CATALOG, FAULTS
from mae_dist.data.prepare.part import SOURCE, part_name
from mae_dist.data.sources import is_drawn, open_source

_WRITTEN = (CATALOG, SOURCE, f"{part_name(0)}.parquet", f"{part_name(0)}.tar")
"""What a destination holds that a reader would take for samples."""
_ABOUT = """\
images  re-encoded as JPEG, without transparency, where their short side is longer than wanted, others and
        arrays kept byte for byte; Parquet
videos  re-encoded as H.264 with short groups of pictures, without B-frames and sound; tar shards

The samples are shuffled by seed. Given again, the command makes the shards that are missing and nothing
else; with other settings it wants another destination. DESTINATION/catalog.parquet is what a run is given.
A sample that was left out is not tried again unless its shard's record in DESTINATION/parts is deleted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE DESTINATION and how the samples are to be written."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a catalog, or what `mae-dist catalog build` lists by itself; local or s3://...",
    )
    parser.add_argument("destination", metavar="DESTINATION", help="a folder of its own, local or s3://...")
    parser.add_argument(
        "--short-side", type=int, default=256, metavar="PIXELS", help="of what is larger (%(default)s)"
    )
    parser.add_argument(
        "--quality",
        type=int,
        metavar="NUMBER",
        help="of JPEG, 100 is best (90); for videos x264's constant rate factor, 1 is best (20)",
    )
    parser.add_argument(
        "--keyframe-every", type=int, metavar="FRAMES", help="for videos: at most so many apart (12)"
    )
    parser.add_argument(
        "--shard-size", type=int, metavar="SAMPLES", help="at most, per shard (4096 images, 128 videos)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order of the samples (%(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="CPU_SECONDS",
        help="that one sample may take before it is left out (10 for images, 600 for videos)",
    )
    parser.add_argument(
        "--max-faults",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="of the samples that may be unreadable; beyond it there is no catalog (%(default)s)",
    )
    parser.add_argument(
        "--compare",
        type=int,
        default=32,
        metavar="SAMPLES",
        help="on which bytes and decoding time are measured before and after (%(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """0 when all is there, 1 if too many samples are unreadable, 2 if it cannot work as asked.

    130 when it was interrupted.
    """
    source_uri = storage.absolute(arguments.source)
    destination = storage.absolute(arguments.destination)
    try:
        _check(arguments)
        storage.check_writable(destination)
        source = open_source(source_uri)
        settings = Settings.of(
            source,
            short_side=arguments.short_side,
            quality=arguments.quality,
            keyframe_every=arguments.keyframe_every,
            shard_size=arguments.shard_size,
            seed=arguments.seed,
            seconds=arguments.seconds,
        )
        with ProgressBars() as progress:
            outcome = prepare(
                source,
                source_uri,
                destination,
                settings,
                spread=_on_the_cluster,
                most_faults=arguments.max_faults,
                show=progress.show,
            )
    except TooManyFaultsError as error:
        print(error, file=sys.stderr)
        return 1
    except (PrepareError, DecoderError, *SOURCE_ERRORS) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on with the shards that are missing", file=sys.stderr)
        return 130
    for name, fact in _facts(outcome, source, destination).items():
        print(f"{name:<9}{fact}")
    return _compare(source, outcome, settings, destination, arguments.compare) if arguments.compare else 0


def _check(arguments: argparse.Namespace) -> None:
    if is_drawn(arguments.source):
        raise PrepareError(
            f"{arguments.source}: is drawn by each run that names it; there is nothing to prepare"
        )
    if _lies_in(arguments.destination, arguments.source):
        raise PrepareError(
            f"{arguments.destination}: lies in the source, which would hold the result when it is listed "
            f"again; give a folder beside it"
        )
    if not 0 <= arguments.max_faults <= 1:
        raise PrepareError(f"--max-faults is a share from 0 to 1, got {arguments.max_faults:g}")
    if arguments.compare < 0:
        raise PrepareError(f"--compare is a number of samples, or 0 for none, got {arguments.compare}")


def _lies_in(destination: str, source: str) -> bool:
    """Whether a listing of the source would find what is in the destination."""
    folder, _, pattern = storage.absolute(source).rpartition("/")
    if "*" not in pattern:
        folder, pattern = storage.absolute(source), "*"
    is_below = f"{storage.absolute(destination)}/".startswith(f"{folder.rstrip('/')}/")
    return is_below and any(fnmatch(name, pattern) for name in _WRITTEN)


def _on_the_cluster(work: Callable[[Part], int], parts: Sequence[Part]) -> Iterator[int]:
    """`spread` over Ray, which is joined or started only if there is something to do."""
    if not parts:
        return
    # Imported here: torch and ray take seconds, and a mistake in what was asked is told without them.
    from mae_dist.data.spread import spread
    from mae_dist.orchestrate import cluster

    try:
        cluster.connect()
    except cluster.ClusterError as error:
        raise PrepareError(str(error)) from error
    yield from spread(work, parts)


def _facts(outcome: Outcome, source: Catalog, destination: str) -> dict[str, str]:
    facts = {"samples": f"{outcome.catalog.num_samples}"}
    if outcome.left_out:
        where = storage.join(destination, FAULTS)
        missing = source.num_samples - outcome.catalog.num_samples
        facts["faults"] = f"{missing} of {source.num_samples} left out, all named in {where}"
    kept = f", {outcome.kept} samples as they were" if outcome.kept else ""
    before, after = outcome.bytes_before, outcome.bytes_after
    return facts | {
        "shards": f"{outcome.shards}, {outcome.made_now} made now",
        "bytes": f"{_bytes(before)} before, {_bytes(after)} after ({after / before:.2f}x){kept}",
        "digest": outcome.catalog.digest,
        "catalog": storage.join(destination, CATALOG),
    }


def _compare(
    source: Catalog, outcome: Outcome, settings: Settings, destination: str, num_samples: int
) -> int:
    try:
        found = compare(source, outcome, media=settings.media, num_samples=num_samples, seed=settings.seed)
    except DecodeError as error:
        print(f"all samples are prepared, but cannot be compared: {error}", file=sys.stderr)
        return 1
    save(destination, found)
    for line in _table(found):
        print(line)
    print(f"\nas data  {storage.join(destination, COMPARISON)}")
    return 0


def _table(found: Comparison) -> list[str]:
    ratios = found.as_dict()
    rows = [
        (f"mean of {found.samples}", "before", "after", ""),
        (
            "bytes",
            _bytes(found.bytes_before),
            _bytes(found.bytes_after),
            f"{ratios['bytes_ratio']:.2f}x as many",
        ),
        (
            "CPU time",
            f"{found.decode_ms_before:.1f} ms",
            f"{found.decode_ms_after:.1f} ms",
            f"{ratios['decode_speedup']:.2f}x as fast",
        ),
    ]
    return [
        "",
        *(f"{name:<12}{before:>10}{after:>10}  {ratio}".rstrip() for name, before, after, ratio in rows),
        f"decoded: {found.decoding}",
        f"pixels:  the centre crops differ by {found.pixel_difference:.2f} of 255 levels in the mean",
    ]


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
