"""A whole data set prepared: what stands in the destination, and what interrupts, damage and drift do."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from mae_dist import storage
from mae_dist.config.geometry import Grid
from mae_dist.config.limits import DecodeLimits
from mae_dist.config.schema import AugmentConfig, InputConfig
from mae_dist.data.batch import StreamSpec, build_block
from mae_dist.data.catalog import Catalog
from mae_dist.data.fetch import fetch
from mae_dist.data.limits import DecodeError
from mae_dist.data.prepare import PrepareError, TooManyFaultsError
from mae_dist.data.prepare import packing as packing_module
from mae_dist.data.prepare.part import make_part
from mae_dist.data.readers import build_catalog
from tests.data.prepare.sources import (
    contents,
    encoded,
    picture,
    prepare_here,
    write_here,
    write_images,
    write_shard,
)


def labels(catalog: Catalog) -> dict[str, str]:
    """Key -> name of the class."""
    rows = catalog.rows(np.arange(catalog.num_samples))
    return {row.key: catalog.classes[row.label] for row in rows}


def refuse(destination, settings, part):
    raise AssertionError(f"part {part.number} is made, though it is there")


@pytest.fixture
def images(tmp_path) -> Catalog:
    return write_images(str(tmp_path / "images"), 22)


@pytest.fixture
def videos(tmp_path, make_video) -> Catalog:
    for number in range(5):
        name = f"{'odd' if number % 2 else 'even'}/{number}.mp4"
        storage.write_bytes(str(tmp_path / "videos" / name), make_video(num_frames=20 + number))
    return build_catalog(str(tmp_path / "videos"))


def test_images_become_smaller_and_keep_their_labels(place):
    images = write_images(f"{place}/images", 22)
    outcome = prepare_here(images, f"{place}/out")
    catalog = Catalog.load(f"{place}/out/catalog.parquet")
    assert catalog.digest == outcome.catalog.digest
    assert labels(catalog) == labels(images)
    assert catalog.classes == images.classes
    before, after = encoded(images), encoded(catalog)
    kept = [key for key in before if before[key] == after[key]]
    assert kept == [f"even/{number:04d}.jpg" for number in (0, 10, 20)] + [
        f"odd/{number:04d}.jpg" for number in (5, 15)
    ]
    assert outcome.kept == len(kept)
    assert outcome.bytes_before == sum(map(len, before.values()))
    assert outcome.bytes_after == sum(map(len, after.values())) < outcome.bytes_before
    digests = dict(zip(catalog.table["key"].to_pylist(), catalog.table["sha256"].to_pylist(), strict=True))
    assert digests == {key: hashlib.sha256(data).digest() for key, data in after.items()}


def test_image_shards_are_such_as_any_catalog_can_be_built_of(images, tmp_path):
    prepare_here(images, str(tmp_path / "out"))
    again = build_catalog(str(tmp_path / "out" / "shards"), kind="shards")
    assert again.classes == images.classes
    assert sorted(encoded(again).values()) == sorted(
        encoded(Catalog.load(f"{tmp_path}/out/catalog.parquet")).values()
    )


def test_videos_become_members_of_tars_with_their_facts_and_digests(videos, place):
    outcome = prepare_here(videos, f"{place}/out", keyframe_every=5)
    catalog = Catalog.load(f"{place}/out/catalog.parquet")
    assert labels(catalog) == labels(videos)
    facts = dict(zip(catalog.table["key"].to_pylist(), catalog.table["frames"].to_pylist(), strict=True))
    assert facts == {f"{'odd' if n % 2 else 'even'}/{n}.mp4": 20 + n for n in range(5)}
    assert np.allclose(catalog.table["fps"].to_numpy(), 10)
    assert {row.uri.rpartition("/")[2] for row in catalog.rows(np.arange(5))} == {
        "part-00000.tar",
        "part-00001.tar",
    }
    for data in encoded(catalog).values():
        with av.open(io.BytesIO(data)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        assert [n for n, packet in enumerate(packets) if packet.is_keyframe][:4] == [0, 5, 10, 15]
    assert outcome.shards == outcome.made_now == 2


def test_a_bit_that_flips_in_a_prepared_video_is_noticed(videos, tmp_path):
    catalog = prepare_here(videos, str(tmp_path / "out")).catalog
    [row] = catalog.rows(np.array([1]))
    path = Path(row.uri)
    data = bytearray(path.read_bytes())
    data[row.offset + row.length // 2] ^= 1
    path.write_bytes(data)
    [found] = fetch([row], DecodeLimits())
    assert isinstance(found, DecodeError)
    assert "sha256 differs" in str(found)


def test_video_shards_are_such_as_any_catalog_can_be_built_of(videos, tmp_path):
    prepared = prepare_here(videos, str(tmp_path / "out")).catalog
    again = build_catalog(str(tmp_path / "out" / "shards"))
    assert sorted(encoded(again).values()) == sorted(encoded(prepared).values())
    for name in ("offset", "length", "label"):
        assert again.table[name].equals(prepared.table[name]), name
    assert again.chunk == prepared.chunk


def test_keyframes_of_one_video_share_what_is_written_once(tmp_path, make_video):
    for name in "ab":
        storage.write_bytes(f"{tmp_path}/{name}.mp4", make_video())
    storage.write_bytes(f"{tmp_path}/broken.mp4", b"text")
    uris = [f"{tmp_path}/{name}.mp4" for name in ("b", "a", "broken", "b", "broken", "a", "b")]
    box = {"x1": 0, "y1": 0, "x2": 1, "y2": 1, "person": 5, "labels": [0]}
    keyframes = Catalog.of(
        keys=[f"{number}" for number in range(7)],
        uris=uris,
        media="video",
        labels=[-1] * 7,
        classes=["run"],
        times=[float(number) for number in range(7)],
        boxes=[[box] * number for number in range(7)],
    )
    outcome = prepare_here(keyframes, str(tmp_path / "out"), most_faults=0.3, short_side=48)
    assert len(outcome.left_out) == 1
    table = Catalog.load(str(tmp_path / "out" / "catalog.parquet")).table
    assert sorted(table["key"].to_pylist()) == ["0", "1", "3", "5", "6"]
    assert [int(key) for key in table["key"].to_pylist()] == outcome.source_samples.tolist()
    assert table["time"].to_pylist() == [float(key) for key in table["key"].to_pylist()]
    assert [len(boxes) for boxes in table["boxes"].to_pylist()] == outcome.source_samples.tolist()
    offsets = dict(zip(table["key"].to_pylist(), table["offset"].to_pylist(), strict=True))
    assert offsets["0"] == offsets["3"] == offsets["6"] != offsets["1"] == offsets["5"]
    with pytest.raises(TooManyFaultsError, match="2 of 7 samples cannot be used"):
        prepare_here(keyframes, str(tmp_path / "out"), most_faults=0.1, short_side=48)


def test_rows_of_parquet_are_prepared_like_files(tmp_path):
    source = write_shard(tmp_path / "images.parquet", 30, rows_per_group=8)
    outcome = prepare_here(source, str(tmp_path / "out"), shard_size=16)
    assert labels(outcome.catalog) == labels(source)
    numbers = {key: number for number, key in enumerate(source.table["key"].to_pylist())}
    keys = outcome.catalog.table["key"].to_pylist()
    assert [numbers[key] for key in keys] == outcome.source_samples.tolist()
    assert keys != sorted(keys)


def test_equal_seeds_give_equal_destinations_and_others_another_order(images, tmp_path):
    one, two, other = (str(tmp_path / name) for name in ("one", "two", "other"))
    prepare_here(images, one)
    prepare_here(images, two, spread=lambda work, parts: map(work, reversed(parts)))
    prepare_here(images, other, seed=1)
    found, expected = contents(one), contents(two)
    del found["/catalog.parquet"], expected["/catalog.parquet"]  # they name their own shards
    assert found == expected
    assert contents(other)["/shards/part-00000.parquet"] != found["/shards/part-00000.parquet"]


@pytest.mark.parametrize("lost", [[], ["parts/part-00001.parquet"], ["shards/part-00002.parquet"]])
def test_a_preparation_that_was_interrupted_is_finished_to_the_same_bytes(images, lost, tmp_path):
    destination = str(tmp_path / "out")
    prepare_here(images, destination)
    expected = contents(destination)
    storage.delete_tree(destination)

    def dies_at_the_fourth(destination, settings, part):
        if part.number == 3:
            raise KeyboardInterrupt
        return write_here(destination, settings, part)

    with pytest.raises(KeyboardInterrupt):
        prepare_here(images, destination, make=dies_at_the_fourth)
    for name in lost:
        storage.delete(f"{destination}/{name}")
    made = []

    def counted(destination, settings, part):
        made.append(part.number)
        return write_here(destination, settings, part)

    prepare_here(images, destination, make=counted)
    assert made == [int(name[-9]) for name in lost] + [3, 4, 5]
    assert contents(destination) == expected


def test_a_finished_preparation_given_again_does_nothing_and_says_the_same(images, tmp_path):
    first = prepare_here(images, str(tmp_path / "out"))
    again = prepare_here(images, str(tmp_path / "out"), make=refuse)
    assert again.made_now == 0
    assert again.catalog.digest == first.catalog.digest


def test_other_settings_in_the_same_destination_are_refused(images, tmp_path):
    prepare_here(images, str(tmp_path / "out"))
    before = contents(str(tmp_path / "out"))
    with pytest.raises(PrepareError, match="short side 24, now 32; quality 90, now 80"):
        prepare_here(images, str(tmp_path / "out"), short_side=32, quality=80)
    assert contents(str(tmp_path / "out")) == before


@pytest.fixture
def with_faults(tmp_path) -> Catalog:
    """Ten images, of which one is text, one is cut off and one is gone."""
    folder = tmp_path / "images"
    for number in range(10):
        storage.write_bytes(str(folder / f"{number}.jpg"), picture(number))
    (folder / "3.jpg").write_bytes(b"<html>404 Not Found</html>")
    (folder / "6.jpg").write_bytes(picture(6)[:500])
    catalog = build_catalog(str(folder))
    (folder / "8.jpg").unlink()
    return catalog


def test_what_cannot_be_used_is_left_out_and_named_with_the_reason(with_faults, tmp_path):
    outcome = prepare_here(with_faults, str(tmp_path / "out"), most_faults=0.3)
    assert sorted(outcome.catalog.table["key"].to_pylist()) == [f"{n}.jpg" for n in (0, 1, 2, 4, 5, 7, 9)]
    lines = [json.loads(line) for line in (tmp_path / "out" / "faults.jsonl").read_text().splitlines()]
    assert [line["uri"] for line in lines] == [entry.uri for entry in outcome.left_out]
    assert {line["key"]: line["reason"].partition(":")[0] for line in lines} == {
        "3.jpg": "not a readable image",
        "6.jpg": "not a readable image",
        "8.jpg": "the file is missing",
    }
    assert len(encoded(outcome.catalog)) == 7


def test_too_many_faults_are_told_and_leave_no_catalog(with_faults, tmp_path):
    with pytest.raises(TooManyFaultsError) as caught:
        prepare_here(with_faults, str(tmp_path / "out"), most_faults=0.2)
    first, *rest = str(caught.value).splitlines()
    assert first == (
        f"{tmp_path}/out: 3 of 10 samples cannot be used, more than the share of 0.2 that is allowed "
        "(--max-faults); with a larger share the same command ends at once. All are in faults.jsonl; "
        "the first:"
    )
    assert f"  {tmp_path}/images/8.jpg (8.jpg): the file is missing" in rest
    assert not (tmp_path / "out" / "catalog.parquet").exists()
    again = prepare_here(with_faults, str(tmp_path / "out"), most_faults=0.3, make=refuse)
    assert again.catalog.num_samples == 7


def test_a_shard_of_which_nothing_can_be_used_is_not_made_again(with_faults, tmp_path):
    destination = str(tmp_path / "out")
    first = prepare_here(with_faults, destination, most_faults=0.3, shard_size=1)
    assert first.shards == len(list((tmp_path / "out" / "shards").iterdir())) == 7
    assert prepare_here(with_faults, destination, most_faults=0.3, shard_size=1, make=refuse).made_now == 0


def test_a_source_of_which_nothing_can_be_used_is_refused_whatever_is_allowed(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"text")
    with pytest.raises(TooManyFaultsError, match=r"1 of 1 samples cannot be used"):
        prepare_here(build_catalog(str(tmp_path)), str(tmp_path / "out"), most_faults=1)


def test_samples_left_out_do_not_shift_the_row_groups_that_are_read_together(tmp_path, monkeypatch):
    monkeypatch.setattr(packing_module, "ROWS_PER_GROUP", 4)
    monkeypatch.setattr("mae_dist.data.prepare.outcome.ROWS_PER_GROUP", 4)
    for number in range(40):
        storage.write_bytes(
            f"{tmp_path}/images/{number:02d}.jpg", b"text" if number == 7 else picture(number)
        )
    source = build_catalog(f"{tmp_path}/images")
    catalog = prepare_here(source, str(tmp_path / "out"), most_faults=0.1, shard_size=8).catalog
    assert catalog.chunk == 4
    groups = [(row.uri, row.row // 4) for row in catalog.rows(np.arange(39))]
    assert all(len(set(groups[start : start + 4])) == 1 for start in range(0, 36, 4))
    uris = {row.uri for row in catalog.rows(np.arange(39))}
    assert [pq.ParquetFile(uri).num_row_groups for uri in sorted(uris)] == [2] * 5


def test_a_record_that_is_damaged_is_named(images, tmp_path):
    prepare_here(images, str(tmp_path / "out"))
    (tmp_path / "out" / "parts" / "part-00001.parquet").write_bytes(b"nothing")
    with pytest.raises(
        storage.StorageError, match=r"part-00001\.parquet: is no record of a shard; delete it, and the shard"
    ):
        prepare_here(images, str(tmp_path / "out"))


def test_progress_counts_what_is_there_already(images, tmp_path):
    shown = []

    def show(what, done, total):
        shown.append((what, done, total))

    prepare_here(images, str(tmp_path / "out"))
    storage.delete(f"{tmp_path}/out/parts/part-00004.parquet")
    prepare_here(images, str(tmp_path / "out"), show=show)
    assert shown == [("shards made", 5, 6), ("shards made", 6, 6)]


@pytest.mark.parametrize("media", ["images", "videos"])
def test_training_reads_what_was_prepared(media, request, tmp_path):
    source = request.getfixturevalue(media)
    prepare_here(source, str(tmp_path / "out"))
    size = InputConfig(frames=2, height=16, width=16)
    spec = StreamSpec(
        seed=0,
        micro_batch=8,
        input=size,
        augment=AugmentConfig(),
        mask=None,
        grid=Grid(frames=1, rows=1, columns=1),
        train=True,
    )
    catalog = Catalog.load(str(tmp_path / "out" / "catalog.parquet"))
    block = build_block(0, catalog, spec)
    assert block["faults"] == []
    assert block["clips"].shape == (8, 2, 16, 16, 3)
    assert block["label"].tolist() == [catalog.rows(block["sample"])[n].label for n in range(8)]


def test_the_process_that_is_killed_makes_the_same_shards(with_faults, tmp_path):
    here, guarded = str(tmp_path / "here"), str(tmp_path / "guarded")
    prepare_here(with_faults, here, most_faults=0.3, shard_size=10)
    prepare_here(with_faults, guarded, most_faults=0.3, shard_size=10, make=make_part)
    for name in ("shards/part-00000.parquet", "parts/part-00000.parquet", "faults.jsonl"):
        assert storage.read_bytes(f"{here}/{name}") == storage.read_bytes(f"{guarded}/{name}"), name


def test_settings_are_part_of_what_is_written_down(images, tmp_path):
    prepare_here(images, str(tmp_path / "out"))
    manifest = storage.read_json(str(tmp_path / "out" / "prepare.json"))
    assert manifest["settings"] == {
        "media": "image",
        "short_side": 24,
        "quality": 90,
        "keyframe_every": None,
        "shard_size": 4,
        "seed": 0,
        "seconds": 10.0,
    }
    assert manifest["source"] == {"uri": "the source", "samples": 22, "digest": images.digest}
