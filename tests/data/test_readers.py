"""Folders, shards and lists become catalogs, on disk and in a bucket."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mae_dist import storage
from mae_dist.config.limits import DecodeLimits
from mae_dist.data import shards
from mae_dist.data.catalog import Catalog
from mae_dist.data.fetch import fetch
from mae_dist.data.limits import DecodeError
from mae_dist.data.readers import Request, SourceError, build_catalog, is_catalog
from mae_dist.data.shards import ShardError


def put(place: str, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        storage.write_bytes(storage.join(place, name), data)
    return place


def shard(
    images: list[bytes],
    *,
    labels: list | None = None,
    image_column: str = "image",
    label_column: str = "label",
    struct: bool = False,
    metadata: dict[str, str] | None = None,
    rows_per_group: int = 4,
) -> bytes:
    cells = [{"bytes": image, "path": "x"} for image in images] if struct else pa.array(images, pa.binary())
    columns = {"key": pa.array([str(i) for i in range(len(images))], pa.string()), image_column: cells}
    if labels is not None:
        columns[label_column] = labels
    table = pa.table(columns).replace_schema_metadata(metadata)
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=rows_per_group)
    return file.getvalue()


def labels_of(catalog: Catalog) -> list[int]:
    return catalog.table["label"].to_pylist()


@pytest.mark.parametrize("media", ["image", "video"])
def test_subfolders_are_classes_in_alphabetical_order(place, media):
    suffix = {"image": ".JPEG", "video": ".mp4"}[media]
    names = [f"dog/b{suffix}", f"cat/deep/a{suffix}", f"dog/a{suffix}"]
    put(place, dict.fromkeys([*names, "readme.md", "cat/.hidden.jpg"], b"x"))
    catalog = build_catalog(place)
    assert catalog.table["key"].to_pylist() == sorted(names)
    assert catalog.table["uri"].to_pylist() == [storage.join(place, name) for name in sorted(names)]
    assert set(catalog.table["media"].to_pylist()) == {media}
    assert catalog.classes == ("cat", "dog")
    assert labels_of(catalog) == [0, 1, 1]
    assert catalog.table["row"].to_pylist() == [-1] * 3
    assert catalog.chunk == 1


@pytest.mark.parametrize("suffix", [".png", ".webm"])
def test_a_flat_folder_has_no_labels(place, suffix):
    put(place, {f"{i}{suffix}": b"x" for i in range(3)})
    catalog = build_catalog(place + "/")
    assert catalog.table["key"].to_pylist() == [f"{i}{suffix}" for i in range(3)]
    assert (catalog.classes, labels_of(catalog)) == ((), [-1] * 3)


@pytest.mark.parametrize(
    ("column", "struct", "label_column"),
    [("image", False, "label"), ("jpg", False, "cls"), ("img", True, "labels")],
)
def test_parquet_shards_are_catalogued_row_by_row(place, make_image, column, struct, label_column):
    images = [make_image(i) for i in range(10)]
    options = {"image_column": column, "struct": struct, "label_column": label_column}
    put(
        place,
        {
            "train-1.parquet": shard(images[6:], labels=[1, 0, 2, 0], **options),
            "train-0.parquet": shard(images[:6], labels=[0, 2, 1, 0, 2, 1], **options),
        },
    )
    catalog = build_catalog(place)
    assert labels_of(catalog) == [0, 2, 1, 0, 2, 1, 1, 0, 2, 0]
    assert catalog.classes == ("0", "1", "2")
    assert catalog.table["row"].to_pylist() == [*range(6), *range(4)]
    assert catalog.table["uri"].to_pylist() == [
        storage.join(place, f"train-{part}.parquet") for part in [0] * 6 + [1] * 4
    ]
    assert catalog.table["key"][6].as_py() == "train-1.parquet/0"
    assert catalog.chunk == 4
    for part, rows in [(0, [5, 0, 3]), (1, [3, 1])]:
        read = shards.read_rows(storage.join(place, f"train-{part}.parquet"), rows, DecodeLimits())
        assert read == [images[6 * part + row] for row in rows]


def test_parquet_shards_may_hold_videos(tmp_path):
    put(str(tmp_path), {"a.parquet": shard([b"one", b"two"], labels=[1, 0], image_column="mp4")})
    catalog = build_catalog(str(tmp_path))
    assert set(catalog.table["media"].to_pylist()) == {"video"}
    assert list(fetch(catalog.rows(np.array([1, 0])), DecodeLimits())) == [b"two", b"one"]


def test_the_catalog_itself_is_no_sample_of_the_folder_it_lies_in(tmp_path):
    out = f"{tmp_path}/catalog.parquet"
    put(str(tmp_path), {"a.parquet": shard([b"one"]), "catalog.parquet": b"of the last time"})
    assert build_catalog(str(tmp_path), request=Request(exclude=out)).num_samples == 1


def test_a_pattern_and_a_single_file_choose_shards(place):
    files = {name: shard([b"1", b"2"]) for name in ("train-0.parquet", "train-1.parquet", "test-0.parquet")}
    put(place, files)
    assert build_catalog(storage.join(place, "train-*.parquet")).num_samples == 4
    single = build_catalog(storage.join(place, "test-0.parquet"))
    assert single.num_samples == 2
    assert (single.classes, labels_of(single)) == ((), [-1, -1])


HUGGING_FACE = json.dumps({"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}})


@pytest.mark.parametrize(
    ("labels", "metadata", "classes", "numbers"),
    [
        ([1, 0, 1], {"classes": "cat,dog"}, ("cat", "dog"), [1, 0, 1]),
        ([1, 0, 1], {"classes": '["a cat", "dog"]'}, ("a cat", "dog"), [1, 0, 1]),
        ([1, 0, 1], {"huggingface": HUGGING_FACE}, ("cat", "dog"), [1, 0, 1]),
        (["dog", "cat", None], None, ("cat", "dog"), [1, 0, -1]),
        ([1, None, 0], None, ("0", "1"), [1, -1, 0]),
    ],
    ids=["comma", "JSON", "Hugging Face", "names", "missing label"],
)
def test_class_names_of_shards_are_found(tmp_path, labels, metadata, classes, numbers):
    put(str(tmp_path), {"a.parquet": shard([b"1"] * 3, labels=labels, metadata=metadata)})
    catalog = build_catalog(str(tmp_path))
    assert (catalog.classes, labels_of(catalog)) == (classes, numbers)


def test_shards_sorted_by_class_are_not_read_in_chunks(tmp_path, caplog):
    put(str(tmp_path), {"a.parquet": shard([b"1"] * 100, labels=[0] * 50 + [1] * 50)})
    assert build_catalog(str(tmp_path)).chunk == 1
    assert "its samples are sorted by class" in caplog.text


@pytest.mark.parametrize(
    ("text", "labels", "classes"),
    [
        ("a.mp4,1\nb c.mp4,0\n", [1, 0], ("0", "1")),
        ("a.mp4 1\nb c.mp4 0\n", [1, 0], ("0", "1")),
        ("a.mp4\t1\nb c.mp4\t-1\n", [1, -1], ("0", "1")),
        ("path;label\na.mp4;1\nb c.mp4;0\n", [1, 0], ("0", "1")),
        ("path,label\na.mp4, dog\nb c.mp4, cat\n", [1, 0], ("cat", "dog")),
        ('"a.mp4","dog"\n\n"b c.mp4","dog"\n', [0, 0], ("dog",)),
        ("a.mp4\r\nb c.mp4\r\n", [-1, -1], ()),
        ("\ufeffa.mp4,0\nb c.mp4,0", [0, 0], ("0",)),
    ],
    ids=["comma", "space", "tab", "semicolon", "heading and names", "quotes", "no labels", "byte order mark"],
)
def test_a_list_says_paths_and_labels(place, text, labels, classes):
    put(place, {"videos/list.csv": text.encode(), "videos/a.mp4": b"x"})
    catalog = build_catalog(storage.join(place, "videos/list.csv"))
    assert catalog.table["uri"].to_pylist() == [
        storage.join(place, "videos", n) for n in ("a.mp4", "b c.mp4")
    ]
    assert (catalog.classes, labels_of(catalog)) == (classes, labels)
    assert set(catalog.table["media"].to_pylist()) == {"video"}


def test_absolute_paths_in_a_list_stay_as_they_are(tmp_path):
    put(str(tmp_path), {"lists/train.txt": f"{tmp_path}/a.jpg 0\n".encode(), "a.jpg": b"x"})
    catalog = build_catalog(f"{tmp_path}/lists/train.txt")
    assert catalog.table["uri"].to_pylist() == [f"{tmp_path}/a.jpg"]


MISTAKES = {
    "empty folder": ({}, "", "nothing is there, or the folder is empty; a source is a folder of images"),
    "no match": ({"a.jpg": b""}, "b-*.jpg", "nothing matches it"),
    "nothing known": ({"a.doc": b"", "b.xls": b""}, "", r"holds 2 files \(a.doc, b.xls\), but a source is a"),
    "images and videos": (
        {"a.jpg": b"", "b.mp4": b""},
        "",
        "holds 1 images and 1 videos; name a folder with",
    ),
    "files beside folders": (
        {"a.jpg": b"", "cat/b.jpg": b""},
        "",
        r"1 image file\(s\) lie directly in it \(such as a.jpg\) and 1 in subfolders \(such as cat/b.jpg\)",
    ),
    "empty list": ({"l.csv": b"\n\n"}, "l.csv", "the list is empty"),
    "odd line": (
        {"l.csv": b"a.mp4,1\nb.mp4,2\nwhat is this\n"},
        "l.csv",
        "line 3 of 3 does not fit: 'what is this'; a line is 'path' or 'path label'",
    ),
    "list of missing files": (
        {"l.csv": b"a.mp4,1\n"},
        "l.csv",
        "the files it lists are not there; paths are relative to the folder of the list",
    ),
    "mixed list": ({"l.csv": b"a.mp4,1\nb.jpg,1\n"}, "l.csv", "lists both images and videos"),
    "negative label": ({"l.csv": b"a.mp4,-2\n", "a.mp4": b""}, "l.csv", "label -2; a label is 0 or more"),
    "shards without rows": ({"a.parquet": shard([])}, "", "all without samples"),
    "shards that disagree": (
        {"a.parquet": shard([b"1"], labels=[0]), "b.parquet": shard([b"1"])},
        "",
        "b.parquet has other labels, classes or media than a.parquet",
    ),
    "more labels than classes": (
        {"a.parquet": shard([b"1"], labels=[3], metadata={"classes": "cat,dog"})},
        "",
        "label 3, but only 2 classes are named",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_source_with_a_mistake_is_refused_with_what_would_be_right(tmp_path, name):
    files, below, message = MISTAKES[name]
    put(str(tmp_path), files)
    with pytest.raises(SourceError, match=message):
        build_catalog(f"{tmp_path}/{below}".rstrip("/"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PAR1 but not really PAR1", "is not a readable Parquet file"),
        (
            shard([b"1"], image_column="photo"),
            r"no column of encoded images or videos: looked for image, jpg, .*found key \(string\), photo",
        ),
        (
            shard([b"1"], labels=[0.5]),
            "column 'label' holds double; a label is a whole number or a name",
        ),
    ],
    ids=["garbage", "other columns", "labels with fractions"],
)
def test_a_parquet_file_without_images_is_refused(tmp_path, data, message):
    put(str(tmp_path), {"a.parquet": data})
    with pytest.raises(ShardError, match=message):
        build_catalog(str(tmp_path))


def test_a_missing_source_and_an_unknown_kind_are_named(place):
    with pytest.raises(SourceError, match="nowhere: nothing is there"):
        build_catalog(storage.join(place, "nowhere"))
    with pytest.raises(
        SourceError,
        match=r"one of auto, images, videos, corruptions, list, shards, tars, kinetics400, .* got 'tar'",
    ):
        build_catalog(place, kind="tar")


@pytest.mark.parametrize(("kind", "number"), [("images", 1), ("videos", 2)])
def test_a_kind_may_be_forced_where_a_folder_holds_several(tmp_path, kind, number):
    put(str(tmp_path), {"a.jpg": b"", "b.mp4": b"", "c.mp4": b""})
    assert build_catalog(str(tmp_path), kind=kind).num_samples == number


def test_a_catalog_is_told_from_everything_else(place):
    put(place, {"a.mp4": b"x", "shard.parquet": shard([b"1"]), "list.csv": b"a.mp4\n"})
    build_catalog(storage.join(place, "list.csv")).save(storage.join(place, "catalog.parquet"))
    assert is_catalog(storage.join(place, "catalog.parquet"))
    for name in ("a.mp4", "shard.parquet", "list.csv", "nowhere.parquet"):
        assert not is_catalog(storage.join(place, name))
    assert not is_catalog(place)


def test_a_footer_larger_than_the_first_guess_is_read_whole(tmp_path):
    noise = np.random.default_rng(0).bytes
    images = [noise(2000) for _ in range(600)]
    put(str(tmp_path), {"a.parquet": shard(images, metadata={"note": "x" * 100_000}, rows_per_group=8)})
    catalog = build_catalog(str(tmp_path))
    assert (catalog.num_samples, catalog.chunk) == (600, 8)
    assert shards.read_rows(f"{tmp_path}/a.parquet", [599, 0], DecodeLimits()) == [images[599], images[0]]


def test_a_sample_of_a_shard_beyond_the_limits_is_named_and_those_beside_it_are_read(tmp_path):
    put(str(tmp_path), {"a.parquet": shard([b"small", b"x" * 1001, b"", b"y" * 1000])})
    read = shards.read_rows(f"{tmp_path}/a.parquet", [0, 1, 2, 3], DecodeLimits(bytes=1000))
    assert [*map(str, read[1:3])] == ["more than 1,000 bytes", "the file is empty"]
    assert [read[0], read[3]] == [b"small", b"y" * 1000]


def test_a_row_group_that_must_hold_too_large_samples_is_not_read(tmp_path, monkeypatch):
    put(str(tmp_path), {"a.parquet": shard([b"small", b"x" * 100_000])})
    uri = f"{tmp_path}/a.parquet"
    shards.open_shard(uri)  # from here on nothing is to be read
    monkeypatch.delattr(storage, "read_checked")
    with pytest.raises(
        DecodeError, match=r"row group 0 of the shard holds 100,\d+ bytes in 2 samples, .* have 1,000 each"
    ):
        shards.read_rows(uri, [0], DecodeLimits(bytes=1000))
