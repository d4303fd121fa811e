"""Catalogs: written, read, checked."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mae_dist import storage
from mae_dist.data.catalog import KEYFRAME_SCHEMA, SCHEMA, Catalog, CatalogError, Row, metadata_of


def make(labels: list[int] | None = None, *, uri: str = "s3://bucket/{}.mp4") -> Catalog:
    labels = [0, 1, 0, -1, 1, 0] if labels is None else labels
    return Catalog.of(
        keys=[f"clip {i}" for i in range(len(labels))],
        uris=[uri.format(i) for i in range(len(labels))],
        media="video",
        labels=labels,
        classes=["cat", "dog"],
        chunk=3,
    )


def test_a_catalog_comes_back_as_it_was_saved(place):
    saved = make()
    saved.save(storage.join(place, "train.parquet"))
    loaded = Catalog.load(storage.join(place, "train.parquet"))
    assert loaded.table.schema == SCHEMA
    assert loaded.table.to_pydict() | {"fps": 0} == saved.table.to_pydict() | {"fps": 0}
    assert np.isnan(loaded.table["fps"].to_numpy()).all()
    assert (loaded.classes, loaded.chunk, loaded.digest) == (("cat", "dog"), 3, saved.digest)
    assert (loaded.num_samples, loaded.num_classes) == (6, 2)


def test_rows_come_in_the_order_asked_for():
    rows = make().rows(np.array([4, 0, 4]))
    assert [row.key for row in rows] == ["clip 4", "clip 0", "clip 4"]
    assert rows[0] == Row("clip 4", "s3://bucket/4.mp4", "video", -1, 1)


def keyframes(**change: Any) -> Catalog:
    """Two keyframes of one video, the second without anybody in it."""
    box = {"x1": 0.1, "y1": 0.2, "x2": 0.5, "y2": 0.75, "person": 3, "labels": [0, 1]} | change
    return Catalog.of(
        keys=["a/0902", "a/0903"],
        uris=["a.mp4"] * 2,
        media="video",
        labels=[-1, -1],
        classes=["sit", "talk"],
        times=[902, 903],
        boxes=[[box], []],
    )


def test_keyframes_keep_their_time_and_their_boxes(place):
    keyframes().save(storage.join(place, "train.parquet"))
    loaded = Catalog.load(storage.join(place, "train.parquet"))
    assert loaded.table.schema == KEYFRAME_SCHEMA
    assert [row.time for row in loaded.rows(np.array([1, 0]))] == [903.0, 902.0]
    (box,), nobody = loaded.table["boxes"].to_pylist()
    assert nobody == []
    assert box == {"x1": 0.1, "y1": 0.2, "x2": 0.5, "y2": 0.75, "person": 3, "labels": [0, 1]} | {
        name: float(np.float32(value)) for name, value in {"x1": 0.1, "y1": 0.2}.items()
    }
    assert loaded.digest == keyframes().digest


@pytest.mark.parametrize("change", [{"x2": 0.6}, {"person": 4}, {"labels": [0]}, {"labels": [1, 0]}])
def test_the_digest_covers_the_boxes(change):
    assert keyframes(**change).digest != keyframes().digest


def test_the_digest_of_keyframes_is_that_of_their_content_not_of_its_storage():
    catalog = keyframes()
    halves = pa.concat_tables([catalog.table.slice(0, 1), catalog.table.slice(1)])
    assert Catalog(halves, catalog.classes, catalog.chunk).digest == catalog.digest


def test_a_whole_file_has_no_time():
    assert [row.time for row in make().rows(np.array([0]))] == [None]


def test_the_digest_is_that_of_the_content_not_of_its_storage():
    catalog = make()
    halves = pa.concat_tables([catalog.table.slice(0, 2), catalog.table.slice(2)])
    assert Catalog(halves, catalog.classes, catalog.chunk).digest == catalog.digest
    assert pickle.loads(pickle.dumps(catalog)).digest == catalog.digest  # noqa: S301
    assert (
        catalog.subset(2).digest
        == Catalog.of(
            keys=["clip 0", "clip 1", "clip 2", "clip 4"],
            uris=[f"s3://bucket/{i}.mp4" for i in (0, 1, 2, 4)],
            media="video",
            labels=[0, 1, 0, 1],
            classes=["cat", "dog"],
            chunk=3,
        ).digest
    )


@pytest.mark.parametrize(
    "other",
    [
        make([0, 1, 0, -1, 1, 1]),
        make(uri="s3://other/{}.mp4"),
        Catalog(make().table, ("cat", "wolf"), 3),
        Catalog(make().table, ("cat", "dog"), 1),
    ],
    ids=["labels", "uris", "classes", "chunk"],
)
def test_other_content_has_another_digest(other):
    assert other.digest != make().digest


def test_a_subset_takes_the_first_of_every_class_in_the_order_of_the_catalog():
    catalog = make()
    assert catalog.subset(1).table["key"].to_pylist() == ["clip 0", "clip 1"]
    assert catalog.subset(2).table["key"].to_pylist() == ["clip 0", "clip 1", "clip 2", "clip 4"]
    assert catalog.subset(100).num_samples == 5
    assert catalog.subset(1).classes == catalog.classes


def test_a_subset_of_unlabelled_samples_is_refused():
    with pytest.raises(CatalogError, match="cannot take 2 labels per class: no sample has a label"):
        make([-1, -1]).subset(2)


def parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def changed(catalog: Catalog, tmp_path, **about) -> bytes:
    """A saved catalog with other metadata."""
    import json

    uri = str(tmp_path / "original.parquet")
    catalog.save(uri)
    table = pq.read_table(uri)
    written = metadata_of(table.schema)
    assert written is not None
    key = next(iter(table.schema.metadata))
    return parquet(table.replace_schema_metadata({key: json.dumps({**written, **about})}))


def test_a_file_that_is_no_catalog_is_refused_with_what_would_be_right(tmp_path):
    cases = {
        b"path,label\n": "is not a catalog .not a Parquet file.; build one with `mae-dist catalog build`",
        b"": "is not a catalog",
        parquet(pa.table({"image": [b"1"]})): "is a Parquet file but not a catalog; build one with",
        changed(make(), tmp_path, format=99): "is a catalog of format 99, this version reads format 2",
        changed(make(), tmp_path, classes=["a", "b"]): "was altered after it was built",
    }
    for number, (data, message) in enumerate(cases.items()):
        uri = str(tmp_path / f"{number}.parquet")
        storage.write_bytes(uri, data)
        with pytest.raises(CatalogError, match=f"{uri}: {message}"):
            Catalog.load(uri)


def test_an_empty_catalog_is_refused(tmp_path):
    uri = str(tmp_path / "empty.parquet")
    full = str(tmp_path / "full.parquet")
    make().save(full)
    storage.write_bytes(uri, parquet(pq.read_table(full).slice(0, 0)))
    with pytest.raises(CatalogError, match="is an empty catalog; a run needs at least one sample"):
        Catalog.load(uri)


def test_a_missing_catalog_is_named(place):
    uri = storage.join(place, "nowhere.parquet")
    with pytest.raises(storage.StorageNotFoundError, match=r"nowhere\.parquet: no such file"):
        Catalog.load(uri)
