"""`mae-dist catalog build`: what it writes, and how it refuses."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mae_dist import storage
from mae_dist.cli.main import main
from mae_dist.data.catalog import Catalog
from mae_dist.data.readers import KINDS


@pytest.fixture
def videos(tmp_path):
    """A folder of five files that look like videos, in two classes."""
    for name in ("jump/a.mp4", "jump/b.mp4", "run/c.mp4", "run/d.mp4", "run/e.mp4"):
        storage.write_bytes(str(tmp_path / "videos" / name), b"not read")
    return tmp_path / "videos"


def test_a_folder_becomes_a_catalog_that_loads(videos, tmp_path, capsys):
    out = str(tmp_path / "videos.parquet")
    assert main(["catalog", "build", str(videos), out]) == 0
    catalog = Catalog.load(out)
    assert capsys.readouterr().out.splitlines() == [
        "samples  5",
        "classes  2 (jump, run)",
        f"digest   {catalog.digest}",
        f"catalog  {out}",
    ]


def test_a_catalog_names_its_files_wherever_it_is_read(videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["catalog", "build", "videos", "out.parquet"]) == 0
    uris = Catalog.load("out.parquet").table["uri"].to_pylist()
    assert uris[0] == str(videos / "jump" / "a.mp4")


def test_samples_without_a_label_are_counted(tmp_path, capsys):
    listed = tmp_path / "list.csv"
    listed.write_text("a.mp4,0\nb.mp4,-1\n")
    (tmp_path / "a.mp4").touch()
    assert main(["catalog", "build", str(listed), str(tmp_path / "out.parquet")]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["samples  2, 1 without a label", "classes  1"]


def test_the_kind_decides_what_is_listed_of_a_mixed_folder(videos, tmp_path, capsys):
    (videos / "jump" / "poster.png").touch()
    out = str(tmp_path / "out.parquet")
    assert main(["catalog", "build", str(videos), out]) == 2
    assert "say which with the kind images or videos" in capsys.readouterr().err
    assert main(["catalog", "build", str(videos), out, "--kind", "videos"]) == 0
    assert Catalog.load(out).num_samples == 5


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("nowhere", "nowhere: no such file or folder"),
        ("empty", "empty: nothing is there, or the folder is empty"),
        ("texts", "a source is a folder of images, of videos"),
        ("numbers.parquet", "numbers.parquet: "),
    ],
)
def test_a_source_without_samples_is_one_screen_and_status_2(
    source, complaint, tmp_path, capsys, monkeypatch
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "readme.md").touch()
    pq.write_table(pa.table({"number": [1]}), tmp_path / "numbers.parquet")
    monkeypatch.chdir(tmp_path)
    assert main(["catalog", "build", source, "out.parquet"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not (tmp_path / "out.parquet").exists()


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_listed(videos, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["catalog", "build", str(tmp_path / "nowhere"), str(tmp_path / "file" / "out.parquet")]) == 2
    assert "cannot write" in capsys.readouterr().err


AVA_VAL = ["--kind", "ava", "--split", "val"]


@pytest.fixture
def hmdb(tmp_path):
    """Five clips of HMDB51 in two classes, three of them for training, one of which is not there."""
    lists = {"run": "a.avi 1\nb.avi 1\nc.avi 2\n", "wave": "d.avi 1\ne.avi 0\n"}
    for name, text in lists.items():
        storage.write_bytes(f"{tmp_path}/hmdb/splits/{name}_test_split1.txt", text.encode())
    for name in ("run/a", "run/c", "wave/d", "wave/e"):
        storage.write_bytes(f"{tmp_path}/hmdb/{name}.avi", b"not read")
    return str(tmp_path / "hmdb")


def test_what_of_a_public_data_set_is_missing_is_counted_and_listed(hmdb, tmp_path, capsys):
    out = str(tmp_path / "out.parquet")
    assert main(["catalog", "build", hmdb, out, "--kind", "hmdb51", "--split", "train1"]) == 0
    assert capsys.readouterr().out.splitlines()[:4] == [
        "samples  2",
        "classes  2 (run, wave)",
        f"missing  1 of 3 listed (33.3%), such as run/b; kept out, all named in {out}.missing.txt",
        "warning  2 samples, but train1 of hmdb51 has 3,570 where results are published: 3,568 fewer "
        "(-99.9%)",
    ]
    assert storage.read_bytes(f"{out}.missing.txt") == b"run/b\n"


def test_keyframes_are_counted_with_their_boxes(tmp_path, capsys):
    for name, text in {
        "ava_val_v2.2.csv": "abc,0902,0,0,1,1,1,1\nabc,0902,0,0,.5,1,1,2\nabc,0903,0,0,1,1,1,1\n",
        "ava_val_excluded_timestamps_v2.2.csv": "",
        "ava_action_list_v2.2.pbtxt": 'label {\n  name: "sit"\n  label_id: 1\n}\n',
        "abc.mkv": "not read",
    }.items():
        (tmp_path / name).write_text(text)
    assert main(["catalog", "build", str(tmp_path), f"{tmp_path}/out.parquet", *AVA_VAL]) == 0
    assert capsys.readouterr().out.splitlines()[:4] == [
        "samples  2",
        "classes  1 (sit)",
        "boxes    3",
        "warning  1 videos, but val of ava has 64 where results are published: 63 fewer (-98.4%)",
    ]


def test_a_split_that_does_not_exist_is_refused_with_those_that_do(hmdb, tmp_path, capsys):
    assert main(["catalog", "build", hmdb, str(tmp_path / "o.parquet"), "--kind", "hmdb51"]) == 2
    assert "the split of hmdb51 is one of train1, train2, train3, test1" in capsys.readouterr().err


def test_the_help_names_every_kind_and_its_splits(capsys):
    with pytest.raises(SystemExit):
        main(["catalog", "build", "--help"])
    shown = capsys.readouterr().out
    for name, kind in KINDS.items():
        assert f"\n  {name} " in shown
        assert not kind.splits or f"split: {', '.join(kind.splits)}" in shown


def test_a_second_build_beside_the_shards_reads_what_changed(tmp_path, monkeypatch, capsys):
    from mae_dist.data.readers import parquet

    folder = tmp_path / "shards"
    folder.mkdir()
    pq.write_table(pa.table({"image": [b"1", b"2"]}), folder / "a.parquet")
    build = ["catalog", "build", str(folder), str(folder / "catalog.parquet"), "--kind", "shards"]
    assert main(build) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr(parquet, "read_shard", None)  # whoever reads a shard fails
    assert main(build) == 0
    assert capsys.readouterr().out == first


def test_progress_appears_on_a_terminal_for_what_takes_long(tmp_path, monkeypatch, capsys):
    from mae_dist.cli import progress

    pq.write_table(pa.table({"image": [b"1", b"2"]}), tmp_path / "a.parquet")
    build = ["catalog", "build", str(tmp_path / "a.parquet"), str(tmp_path / "out.parquet")]
    assert main(build) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    (tmp_path / ".out.parquet.index").unlink()
    assert main(build) == 0
    assert "shards read" in capsys.readouterr().err
