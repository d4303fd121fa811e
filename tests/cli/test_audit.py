"""`mae-dist catalog audit`: what it prints and writes, and how it refuses."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from mae_dist import storage
from mae_dist.cli.audit import PROBLEMS
from mae_dist.cli.audit_page import print_page
from mae_dist.cli.main import main
from mae_dist.data.audit.facts import FactSpec
from mae_dist.data.audit.findings import audit
from mae_dist.data.audit.repeats import leak
from mae_dist.data.audit.summary import summarise
from mae_dist.data.catalog import Catalog
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


def page(source: str, *, min_frames: int = 24) -> list[str]:
    """What is printed of an audit of the clips, compared with themselves."""
    catalog = build_catalog(source)
    findings = audit(catalog, FactSpec())
    others = {"other": (catalog, leak(findings, catalog))}
    summary = summarise(catalog, findings, uri="clips", decoded=False, min_frames=min_frames, others=others)
    console = Console(width=100, record=True, file=io.StringIO())
    print_page(console, summary, {"as data": "a.json"})
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_page_tells_what_there_is_and_what_is_wrong_with_it(clips):
    assert page(clips) == [
        "clips: 4 samples, 46.4 kB; headers and packets read",
        "",
        "3 videos: h264 2, mpeg4 1; 6 s in all; 1 without usable timestamps, decoded from their start",
        "          least      5 %   median     95 %     most",
        "bytes    9.8 kB  10.6 kB  17.8 kB  17.8 kB  17.8 kB",
        "width        96       96       96       96       96",
        "height       64       64       64       64       64",
        "frames       20       20       20       20       20",
        "fps        10.0     10.0     10.0     10.0     10.0",
        "seconds     2.0      2.0      2.0      2.0      2.0",
        "",
        "corrupt           1  25.0 %",
        "                  1          not a readable video: Invalid data found when processing input",
        f"                             such as {clips}/run/c.mp4",
        "short             3  75.0 %  of fewer than 24 frames, such as run/[a].mp4 with 20",
        "duplicates        1  25.0 %  of another sample, such as run/[a].mp4 and walk/d.mp4",
        "conflicts         2  50.0 %  equal, with other labels, such as run/[a].mp4 and walk/d.mp4",
        "leaks             3  75.0 %  also in other, such as run/[a].mp4, there run/[a].mp4",
        "",
        "as data     a.json",
    ]


def test_a_sample_of_a_shard_is_named_by_both(tmp_path):
    pq.write_table(pa.table({"key": ["a", "b"], "image": [b"1", b"2"]}), tmp_path / "shard.parquet")
    [corrupt] = [line for line in page(str(tmp_path / "shard.parquet")) if "such as" in line]
    key = build_catalog(str(tmp_path / "shard.parquet")).table["key"][0].as_py()
    assert corrupt.strip() == f"such as {tmp_path}/shard.parquet ({key})"


def test_only_the_most_frequent_reasons_are_shown(tmp_path):
    """Lines about all of them would hide the rest of the page; the JSON has them."""
    rows = [bytes(length) for length in range(1, 40)]
    pq.write_table(pa.table({"image": rows}), tmp_path / "shard.parquet")
    lines = page(str(tmp_path / "shard.parquet"))
    assert "corrupt          39 100.0 %" in lines
    assert len(lines) < 30


@pytest.mark.slow
def test_the_command_writes_what_it_found(clips, tmp_path, capsys, ray_cluster):
    out = {name: str(tmp_path / name) for name in ("a.json", "samples.parquet", "anew.parquet")}
    listed = str(tmp_path / "clips.parquet")
    assert main(["catalog", "build", clips, listed]) == 0
    capsys.readouterr()
    command = ["catalog", "audit", listed, "--decode", "--against", clips, "--json", out["a.json"]]
    command += ["--samples", out["samples.parquet"], "--write", out["anew.parquet"], "--drop-corrupt"]
    assert main([*command, "--fail-on", "short"]) == 0
    printed = capsys.readouterr().out
    assert f"{listed}: 4 samples, 46.4 kB; every frame decoded" in printed
    summary = storage.read_json(out["a.json"])
    assert summary["num_problems"] == {"corrupt": 1, "short": 0, "duplicates": 1, "conflicts": 2, "leaks": 3}
    assert pq.read_table(out["samples.parquet"]).num_rows == 4
    anew = Catalog.load(out["anew.parquet"])
    assert anew.table["frames"].to_pylist() == [20, 20, 20]
    assert f"anew.parquet (3 samples, digest {anew.digest})" in printed
    assert main([*command, "--fail-on", "short", "--fail-on", "corrupt"]) == 1


@pytest.mark.slow
def test_a_catalog_may_be_written_over_itself(clips, tmp_path, ray_cluster, capsys):
    listed = str(tmp_path / "clips.parquet")
    assert main(["catalog", "build", clips, listed]) == 0
    assert main(["catalog", "audit", listed, "--write", listed]) == 0
    first = Catalog.load(listed).digest
    assert main(["catalog", "audit", listed, "--write", listed]) == 0
    assert Catalog.load(listed).digest == first


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--drop-corrupt"], "--drop-corrupt says what is left out of a catalog: name it with --write"),
        (["--against", "nowhere"], "nowhere: no such file or folder"),
        (["--against", "drawn://glyphs?samples=3"], "drawn://glyphs?samples=3: is drawn by the run"),
        (["--kind", "images"], "no image file"),
        (["--json", "file/a.json"], "cannot write"),
        (["--write", "file/a.parquet"], "cannot write"),
        (["--samples", "file/a.parquet"], "cannot write"),
    ],
)
def test_a_mistake_is_told_before_ray_is_started(more, complaint, clips, tmp_path, monkeypatch, capsys):
    from mae_dist.orchestrate import cluster

    monkeypatch.setattr(cluster, "connect", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["catalog", "audit", clips, *more]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err


@pytest.mark.slow
def test_all_corrupt_and_dropped_is_told(tmp_path, ray_cluster, capsys):
    storage.write_bytes(f"{tmp_path}/clips/a.mp4", b"nothing")
    out = str(tmp_path / "o.parquet")
    assert main(["catalog", "audit", f"{tmp_path}/clips", "--write", out, "--drop-corrupt"]) == 2
    captured = capsys.readouterr()
    assert "corrupt           1 100.0 %" in captured.out
    assert captured.err.splitlines()[-1] == "all 1 samples are corrupt: nothing is left to list"


@pytest.mark.slow
def test_a_place_that_cannot_be_reached_stops_the_audit(tmp_path, ray_cluster, capsys):
    """Else all of a bucket would be called corrupt, and with --drop-corrupt be dropped."""
    listed = str(tmp_path / "clips.parquet")
    uris = ["ftp://host/a.mp4"]
    Catalog.of(keys=uris, uris=uris, media="video", labels=[-1], classes=[]).save(listed)
    assert main(["catalog", "audit", listed]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith("ftp://...: cannot be reached by this program")


def test_a_cluster_that_does_not_answer_is_told(clips, monkeypatch, capsys):
    from mae_dist.orchestrate import cluster

    def refuse():
        raise cluster.ClusterError("RAY_ADDRESS=x: no Ray cluster answers there")

    monkeypatch.setattr(cluster, "connect", refuse)
    assert main(["catalog", "audit", clips]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "RAY_ADDRESS=x: no Ray cluster answers there"


def test_an_interruption_is_one_line(clips, monkeypatch, capsys):
    from mae_dist.orchestrate import cluster

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "connect", interrupt)
    assert main(["catalog", "audit", clips]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"


def test_every_kind_of_problem_can_fail_the_command(clips):
    catalog = build_catalog(clips)
    findings = audit(catalog, FactSpec())
    summary = summarise(catalog, findings, uri="", decoded=False, min_frames=16, others={})
    assert tuple(summary["num_problems"]) == PROBLEMS
