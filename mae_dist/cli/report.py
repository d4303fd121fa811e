"""`mae-dist report RUN`: write a run's report again and show its results, or print it."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime

from rich.console import Console

from mae_dist.cli.status import add_run_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN and --format."""
    add_run_argument(parser)
    parser.add_argument(
        "--format",
        choices=("md", "json", "html"),
        help="print the report in this form and write nothing; without it, the page and report.json are "
        "written into the run directory",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write report/index.html and report/report.json and print the table, or print one of them."""
    if arguments.format is not None:
        sys.stdout.write(_document(arguments.run, arguments.format))
        return 0
    # Imported here: matplotlib takes a second, and --help is told without it.
    from mae_dist.report.publish import page_uri, twin_uri, write_report
    from mae_dist.report.terminal import results_table

    report = write_report(arguments.run)
    console = Console()
    console.print(results_table(report))
    console.print(f"report   {page_uri(arguments.run)}", soft_wrap=True)
    console.print(f"as data  {twin_uri(arguments.run)}", soft_wrap=True)
    return 0


def _document(run_uri: str, form: str) -> str:
    from mae_dist.report.run_files import read_run
    from mae_dist.report.summary import summarise

    run = read_run(run_uri)
    report = summarise(run, created=datetime.now(UTC))
    if form == "html":
        from mae_dist.report.html import page

        return page(report, run)
    if form == "md":
        from mae_dist.report.markdown import report_markdown

        return report_markdown(report)
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"
