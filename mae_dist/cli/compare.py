"""`mae-dist compare RUN...`: the results of several runs, what is published, and how the runs differ."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from mae_dist import storage
from mae_dist.cli.status import terminal
from mae_dist.report.differences import differences
from mae_dist.report.leaderboard import leaderboard, run_label
from mae_dist.report.markdown import differences_markdown, leaderboard_markdown
from mae_dist.report.run_files import NotARunError, read_run
from mae_dist.report.summary import summarise
from mae_dist.report.terminal import differences_table, leaderboard_page

READERS = 8
"""Runs that are read at a time: most of that is waiting for a storage."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN... and --format."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run directories; may be s3://...")
    add_format_argument(parser)


def add_format_argument(parser: argparse.ArgumentParser) -> None:
    """--format, the same for every command that shows a leaderboard."""
    parser.add_argument("--format", choices=("md", "json"), help="Markdown or JSON in place of tables")


def run(arguments: argparse.Namespace) -> int:
    """Print the tables; 2 if one of them is no run directory."""
    reports, unreadable = read_reports([storage.absolute(uri) for uri in arguments.runs])
    if unreadable:
        print(*unreadable.values(), sep="\n", file=sys.stderr)
        return 2
    board, runs = leaderboard(reports), [run_label(report["run_directory"]) for report in reports]
    differing = differences([report["provenance"]["config"] for report in reports])
    if arguments.format == "json":
        _print_json(board | {"runs": runs, "differences": differing})
    elif arguments.format == "md":
        print(leaderboard_markdown(board), differences_markdown(runs, differing), sep="\n", end="")
    else:
        console = terminal()
        console.print(leaderboard_page(board, console), differences_table(runs, differing))
    return 0


def read_reports(runs: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """(what report.json would say now of each run that can be read, why the others cannot)."""
    now = datetime.now(UTC)

    def report_or_problem(uri: str) -> dict[str, Any] | str:
        try:
            return summarise(read_run(uri), created=now)
        except (NotARunError, storage.StorageError) as error:
            return str(error)

    with ThreadPoolExecutor(READERS) as pool:
        found = dict(zip(runs, pool.map(report_or_problem, runs), strict=True))
    return (
        [report for report in found.values() if not isinstance(report, str)],
        {uri: problem for uri, problem in found.items() if isinstance(problem, str)},
    )


def print_board(board: Mapping[str, Any], form: str | None) -> None:
    """The dict of `leaderboard.leaderboard` as tables, Markdown ("md") or JSON ("json")."""
    if form == "json":
        _print_json(board)
    elif form == "md":
        sys.stdout.write(leaderboard_markdown(board))
    else:
        console = terminal()
        console.print(leaderboard_page(board, console))


def _print_json(found: Mapping[str, Any]) -> None:
    json.dump(found, sys.stdout, indent=2, ensure_ascii=False)
    print()
