"""`mae-dist leaderboard STORAGE`: the results of all runs in one place, beside what is published."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

from mae_dist import storage
from mae_dist.cli.compare import READERS, add_format_argument, print_board, read_reports
from mae_dist.report.leaderboard import leaderboard

_NAMES_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """STORAGE and --format."""
    parser.add_argument(
        "storage", metavar="STORAGE", help="folder that holds run directories, as `storage` of a recipe"
    )
    add_format_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a table per protocol and data set; 2 if STORAGE holds no run.

    A run that cannot be read is named below the tables and hides no other.
    """
    where = storage.absolute(arguments.storage)
    names = storage.list_dir(where)
    uris = [storage.join(where, name) for name in names]
    with ThreadPoolExecutor(READERS) as pool:
        is_run = list(pool.map(lambda uri: storage.exists(storage.join(uri, "config.yaml")), uris))
    runs = [uri for uri, is_one in zip(uris, is_run, strict=True) if is_one]
    if not runs:
        print(_nothing(where, names), file=sys.stderr)
        return 2
    reports, unreadable = read_reports(runs)
    print_board(leaderboard(reports, unreadable=unreadable), arguments.format)
    return 0


def _nothing(where: str, names: list[str]) -> str:
    if "config.yaml" in names:
        return f"{where}: is itself a run; give the folder that holds it, or `mae-dist compare {where}`"
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    return (
        f"{where}: holds no runs; looked for folders with a config.yaml in them, like NAME-DIGEST, and found "
        f"{shown or 'nothing at all'}"
    )
