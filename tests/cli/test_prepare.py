"""`mae-dist prepare` without Ray: what it prints and leaves, and how it refuses."""

from __future__ import annotations

import pytest

from mae_dist import storage
from mae_dist.cli import prepare as command
from mae_dist.cli.main import main
from mae_dist.data.catalog import Catalog
from mae_dist.data.decoder import DecoderError
from tests.data.prepare.sources import write_images, write_shard


@pytest.fixture(autouse=True)
def without_ray(monkeypatch):
    monkeypatch.setattr(command, "_on_the_cluster", map)


@pytest.fixture
def images(tmp_path) -> str:
    write_images(str(tmp_path / "images"), 10)
    return str(tmp_path / "images")


def test_a_folder_becomes_a_catalog_ready_for_training(images, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["prepare", images, out, "--short-side", "24", "--compare", "0"]) == 0
    catalog = Catalog.load(f"{out}/catalog.parquet")
    samples, shards, bytes_, *rest = capsys.readouterr().out.splitlines()
    assert samples == "samples  10"
    assert shards == "shards   1, 1 made now"
    assert bytes_.endswith("x), 2 samples as they were")
    assert rest == [f"digest   {catalog.digest}", f"catalog  {out}/catalog.parquet"]


def test_given_again_it_makes_nothing(images, tmp_path, capsys):
    arguments = ["prepare", images, str(tmp_path / "out"), "--compare", "0"]
    assert main(arguments) == 0
    capsys.readouterr()
    assert main(arguments) == 0
    assert "shards   1, 0 made now" in capsys.readouterr().out


def test_before_and_after_stand_side_by_side(images, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["prepare", images, out, "--short-side", "24", "--compare", "3"]) == 0
    shown = capsys.readouterr().out.splitlines()
    found = storage.read_json(f"{out}/comparison.json")
    heading = shown.index("mean of 3       before     after")
    size, speed, decoded, pixels, _, where = shown[heading + 1 :]
    assert size.startswith("bytes")
    assert size.endswith(f"{found['bytes_ratio']:.2f}x as many")
    assert speed.startswith("CPU time")
    assert speed.endswith(f"{found['decode_speedup']:.2f}x as fast")
    assert decoded == "decoded: a random resized crop of 224, bicubic"
    assert pixels == (
        f"pixels:  the centre crops differ by {found['pixel_difference']:.2f} of 255 levels in the mean"
    )
    assert where == f"as data  {out}/comparison.json"


def test_a_catalog_may_be_given_as_the_source(images, tmp_path):
    catalog = str(tmp_path / "images.parquet")
    assert main(["catalog", "build", images, catalog]) == 0
    assert main(["prepare", catalog, str(tmp_path / "out"), "--compare", "0"]) == 0
    manifest = storage.read_json(str(tmp_path / "out" / "prepare.json"))
    assert manifest["source"]["digest"] == Catalog.load(catalog).digest


def test_samples_left_out_are_counted_and_where_they_are_named_is_told(images, tmp_path, capsys):
    storage.write_bytes(f"{images}/odd/9999.jpg", b"text")
    out = str(tmp_path / "out")
    assert main(["prepare", images, out, "--compare", "0", "--max-faults", "0.1"]) == 0
    assert f"faults   1 of 11 left out, all named in {out}/faults.jsonl" in capsys.readouterr().out


def test_too_many_faults_are_status_1(images, tmp_path, capsys):
    storage.write_bytes(f"{images}/odd/9999.jpg", b"text")
    assert main(["prepare", images, str(tmp_path / "out")]) == 1
    shown = capsys.readouterr().err
    assert "1 of 11 samples cannot be used" in shown
    assert "odd/9999.jpg): not a readable image: of no known format" in shown


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--short-side", "25"], "the short side must be even and at least 2 pixels, got 25"),
        (["--max-faults", "1.5"], "--max-faults is a share from 0 to 1, got 1.5"),
        (["--compare", "-1"], "--compare is a number of samples, or 0 for none, got -1"),
        (["--keyframe-every", "12"], "keyframes are for videos"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(arguments, complaint, images, tmp_path, capsys):
    assert main(["prepare", images, str(tmp_path / "out"), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("nowhere", "nowhere: no such file or folder"),
        ("drawn://moving_clips?samples=5", "is drawn by each run that names it; there is nothing to prepare"),
    ],
)
def test_a_source_that_is_not_there_is_refused(source, complaint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", source, "out"]) == 2
    assert complaint in capsys.readouterr().err


def test_a_destination_in_use_is_refused_before_anything_is_started(images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "_on_the_cluster", None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    assert main(["prepare", images, str(tmp_path / "out")]) == 2
    assert "is not empty (thesis.tex) and holds no prepare.json" in capsys.readouterr().err


def test_a_machine_on_which_nothing_can_be_decoded_is_one_message(images, tmp_path, capsys, monkeypatch):
    def fail(work, parts):
        raise DecoderError("decoding in a process that can be killed needs Linux, not darwin")

    monkeypatch.setattr(command, "_on_the_cluster", fail)
    assert main(["prepare", images, str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "decoding in a process that can be killed needs Linux, not darwin\n"


@pytest.mark.parametrize("source", ["images", "images/", "images/*.parquet"])
@pytest.mark.parametrize("destination", ["images", "images/small", "images/odd/../small"])
def test_a_destination_in_the_source_is_refused(source, destination, images, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", source, destination]) == 2
    assert (
        "lies in the source, which would hold the result when it is listed again" in capsys.readouterr().err
    )


def test_shards_that_match_a_pattern_may_have_their_copy_beside_them(tmp_path, monkeypatch):
    write_shard(tmp_path / "train-0.parquet", 6, rows_per_group=2)
    monkeypatch.chdir(tmp_path)
    arguments = ["prepare", "train-*.parquet", "small", "--compare", "0"]
    for _ in range(2):  # the second one lists the source again
        assert main(arguments) == 0
    assert Catalog.load("small/catalog.parquet").num_samples == 6


def test_an_interrupted_preparation_says_how_it_goes_on(images, tmp_path, capsys, monkeypatch):
    def interrupt(work, parts):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_on_the_cluster", interrupt)
    assert main(["prepare", images, str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == (
        "interrupted: the same command goes on with the shards that are missing\n"
    )


def test_originals_that_are_gone_are_told_after_the_result(images, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["prepare", images, out, "--compare", "0"]) == 0
    for info in list(storage.walk_files(images)):
        # As long as before, so that the list of the samples is the same.
        storage.write_bytes(info.uri, bytes(info.size_bytes))
    assert main(["prepare", images, out]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"all samples are prepared, but cannot be compared: {images}/")
    assert shown.endswith("not a readable image: of no known format\n")


def test_a_named_cluster_that_does_not_answer_is_told(images, tmp_path, capsys, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests of this process may have one
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert main(["prepare", images, str(tmp_path / "out")]) == 2
    assert "RAY_ADDRESS=127.0.0.1:1: no Ray cluster answers there" in capsys.readouterr().err
