"""From a run directory to its report: the one entry to this floor."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mae_dist import storage
from mae_dist.report.html import page
from mae_dist.report.run_files import read_run
from mae_dist.report.summary import summarise


def write_report(run_uri: str) -> dict[str, Any]:
    """Write report/index.html and report/report.json in a run directory and return the latter's content.

    May be called at any time and again; while the run goes on the report is partial and says what is missing.
    Raises NotARunError if `run_uri` is no run directory, StorageError if it cannot be read or written.
    """
    run = read_run(run_uri)
    report = summarise(run, created=datetime.now(UTC))
    document = page(report, run)
    # The twin last: whoever waits for report.json finds the page beside it.
    storage.write_bytes(page_uri(run_uri), document.encode(errors="backslashreplace"))
    storage.write_json(twin_uri(run_uri), report)
    return report


def page_uri(run_uri: str) -> str:
    """Where the page of a run lies."""
    return storage.join(run_uri, "report", "index.html")


def twin_uri(run_uri: str) -> str:
    """Where the machine-readable twin of the page lies."""
    return storage.join(run_uri, "report", "report.json")


def read_documents(run_uri: str) -> dict[str, str]:
    """What a reader may want beside the numbers, by its path in the run directory: page, twin and config."""
    paths = ("report/index.html", "report/report.json", "config.yaml")
    return {path: storage.read_bytes(storage.join(run_uri, path)).decode() for path in paths}
