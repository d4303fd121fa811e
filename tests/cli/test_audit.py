"""`mae-dist catalog audit`: what it prints and writes, and how it refuses."""

from __future__ import annotations

import pytest
from rich.console import Console

from mae_dist import storage
from mae_dist.cli.audit import PROBLEMS
from mae_dist.cli.audit_page import print_page
from mae_dist.data.audit.facts import FactSpec
from mae_dist.data.audit.findings import audit
from mae_dist.data.audit.repeats import leak
from mae_dist.data.audit.summary import summarise
from mae_dist.data.readers import build_catalog
from tests.faults.hostile import good_videos


@pytest.fixture
def clips(tmp_path) -> str:
    """Four clips of 20 frames in two classes: one cut off, two equal ones in different classes."""
    good = good_videos()
    files = {
        "run/[a].mp4": good["h264.mp4"],
        "run/b.avi": good["mpeg4.avi"],
        "run/c.mp4": good["h264.mp4"][:1000],
        "walk/d.mp4": good["h264.mp4"],
    }
    for name, data in files.items():
        storage.write_bytes(f"{tmp_path}/clips/{name}", data)
    return f"{tmp_path}/clips"


def page(clips: str, width: int = 200) -> str:
    catalog = build_catalog(clips)
    findings = audit(catalog, FactSpec())
    summary = summarise(
        catalog,
        findings,
        uri="clips",
        decoded=False,
        min_frames=24,
        others={"other": (catalog, leak(findings, catalog))},
    )
    assert list(summary["num_problems"]) == list(PROBLEMS)
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_page(console, summary, {"catalog": "anew.parquet"})
    return console.export_text()


def test_the_page_names_what_there_is_and_what_is_wrong(clips):
    lines = page(clips).splitlines()
    for line in lines:
        print(line)
    assert lines == []


def test_every_problem_can_be_a_reason_to_fail():
    pass
