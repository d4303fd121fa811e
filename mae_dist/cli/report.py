"""`mae-dist report RUN`: write a run's report again and show its results."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN."""
    parser.add_argument("run", metavar="RUN", help="run directory, as a job printed it; may be s3://...")


def run(arguments: argparse.Namespace) -> int:
    """Write report/index.html and report/report.json, print the table; 2 if RUN is no run directory."""
    # Imported here: matplotlib takes a second, and --help is told without it.
    from mae_dist.report.publish import page_uri, twin_uri, write_report
    from mae_dist.report.run_files import NotARunError
    from mae_dist.report.terminal import results_table

    try:
        report = write_report(arguments.run)
    except NotARunError as error:
        print(error, file=sys.stderr)
        return 2
    console = Console()
    console.print(results_table(report))
    console.print(f"report   {page_uri(arguments.run)}", soft_wrap=True)
    console.print(f"as data  {twin_uri(arguments.run)}", soft_wrap=True)
    return 0
