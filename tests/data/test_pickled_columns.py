"""A Parquet file from anywhere may hold pickled objects, in a type that Ray knows; they stay closed."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.data.extensions import ArrowPythonObjectArray

from mae_dist.data import shards
from mae_dist.data.catalog import Catalog, CatalogError
from mae_dist.data.limits import DecodeError
from mae_dist.data.readers.parquet import index_parquet
from mae_dist.data.shards import DecodeLimits, ShardError
from mae_dist.storage import FileInfo


class Bomb:
    """Unpickling it runs a command, which leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


@pytest.fixture
def fired(tmp_path) -> Path:
    """What a bomb leaves."""
    return tmp_path / "fired"


@pytest.fixture
def bombs(fired) -> pa.Array:
    """Two pickled objects, as Ray writes them."""
    return ArrowPythonObjectArray.from_objects([Bomb(fired), Bomb(fired)])


def test_the_type_is_one_that_runs_what_it_holds_when_it_is_read(bombs, fired):
    bombs[0].as_py()
    assert fired.exists()


def write(file: Path, **columns) -> str:
    pq.write_table(pa.table(columns), file)
    return str(file)


@pytest.mark.parametrize("is_nested", [False, True])
def test_pickled_objects_in_place_of_images_are_refused(is_nested, bombs, fired, tmp_path):
    column = pa.StructArray.from_arrays([bombs], ["bytes"]) if is_nested else bombs
    uri = write(tmp_path / "shard.parquet", image=column, label=[0, 1])
    with pytest.raises(ShardError, match=r"no column of encoded images .*ray\.data\.arrow_pickled_object"):
        index_parquet(FileInfo.of_file(uri, uri))
    with pytest.raises(DecodeError, match="no column of encoded images"):
        shards.read_rows(uri, [0], DecodeLimits())
    assert not fired.exists()


def test_pickled_objects_in_a_shard_that_was_listed_before_ray_was_loaded_are_refused(
    bombs, fired, tmp_path, monkeypatch
):
    uri = write(tmp_path / "shard.parquet", image=bombs)
    plain = write(tmp_path / "plain.parquet", image=bombs.storage)
    # Without Ray the schema says bytes; with it, the values of the very same footer are objects.
    monkeypatch.setattr(shards, "_bytes_path", lambda uri, schema: ("image", "image"))
    assert shards.read_rows(plain, [0], DecodeLimits()) == [bombs.storage[0].as_py()]
    with pytest.raises(DecodeError, match=r"holds extension<ray\.data\.arrow_pickled_object.*, not bytes"):
        shards.read_rows(uri, [0], DecodeLimits())
    assert not fired.exists()


def test_pickled_objects_in_place_of_labels_are_refused(bombs, fired, tmp_path):
    uri = write(tmp_path / "shard.parquet", image=[b"a", b"b"], label=bombs)
    with pytest.raises(ShardError, match=r"column 'label' holds .*arrow_pickled_object"):
        index_parquet(FileInfo.of_file(uri, uri))
    assert not fired.exists()


@pytest.mark.parametrize("column", ["uri", "key", "label"])
def test_pickled_objects_in_a_catalog_are_never_opened(column, bombs, fired, tmp_path):
    file = tmp_path / "catalog.parquet"
    Catalog.of(keys=["a", "b"], uris=["a", "b"], media="image", labels=[0, 1], classes=["x", "y"]).save(
        str(file)
    )
    table = pq.read_table(file)
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, bombs), file)
    with pytest.raises(CatalogError, match="was altered after it was built"):
        Catalog.load(str(file))
    assert not fired.exists()
