"""Blocks: the same whoever builds them and wherever the files lie; bad samples named and replaced."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mae_dist import storage
from mae_dist.config.geometry import Grid
from mae_dist.config.limits import DecodeLimits
from mae_dist.config.schema import AugmentConfig, InputConfig, MaskConfig, ViewsConfig
from mae_dist.data import keys, shards
from mae_dist.data.batch import StreamSpec, build_block, num_blocks
from mae_dist.data.catalog import Catalog
from mae_dist.data.faults import FaultBudgetError
from mae_dist.data.masking import keep_ids
from mae_dist.data.readers import build_catalog
from mae_dist.data.synthetic import write_moving_clips
from mae_dist.data.views import Request, decode_views

GRID = Grid(frames=2, rows=4, columns=4)
BESIDE = ("faults", "stats")
"""Entries of a block that are no arrays."""
SPEC: dict[str, Any] = {
    "seed": 3,
    "micro_batch": 4,
    "input": InputConfig(frames=4, frame_stride=2, height=32, width=32),
    "augment": AugmentConfig(crop="multi_scale"),
    "mask": MaskConfig(kind="tube", ratio=0.75),
    "grid": GRID,
    "train": True,
}


def spec(**changes: Any) -> StreamSpec:
    return StreamSpec(**{**SPEC, **changes})


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a if key not in BESIDE)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Catalog:
    """Ten short clips on disk."""
    folder = str(tmp_path_factory.mktemp("clips"))
    return build_catalog(write_moving_clips(folder, 10, seed=0, frames=12, size=32))


def image_shards(folder: str, make_image, *, num_shards: int = 2, rows: int = 12, group: int = 4) -> Catalog:
    for part in range(num_shards):
        images = [make_image(100 * part + row) for row in range(rows)]
        labels = [(7 * row + part) % 3 for row in range(rows)]
        file = io.BytesIO()
        pq.write_table(pa.table({"image": images, "label": labels}), file, row_group_size=group)
        storage.write_bytes(storage.join(folder, f"{part}.parquet"), file.getvalue())
    return build_catalog(folder)


def copy_to(place: str, catalog: Catalog) -> Catalog:
    """The same samples at another place."""
    for row in catalog.rows(np.arange(catalog.num_samples)):
        storage.write_bytes(storage.join(place, row.key), storage.read_bytes(row.uri))
    uris = [storage.join(place, key) for key in catalog.table["key"].to_pylist()]
    table = catalog.table.set_column(1, catalog.table.schema.field("uri"), pa.array(uris).dictionary_encode())
    return Catalog(table, catalog.classes, catalog.chunk)


def test_a_block_has_the_arrays_that_a_worker_needs(clips):
    block = build_block(1, clips, spec())
    assert block["clips"].shape == (4, 4, 32, 32, 3)
    assert block["keep"].shape == (4, 8)
    kinds = {key: value.dtype for key, value in block.items() if key not in BESIDE}
    assert kinds == {
        "clips": np.uint8,
        "keep": np.int64,
        "label": np.int64,
        "sample": np.int64,
        "epoch": np.int64,
        "counted": bool,
    }
    assert block["faults"] == []
    labels = clips.table["label"].to_numpy()
    assert (block["label"] == labels[block["sample"]]).all()
    assert block["counted"].all()
    for row in range(4):
        key = {"seed": 3, "epoch": int(block["epoch"][row]), "sample": int(block["sample"][row])}
        assert (block["keep"][row] == keep_ids("tube", GRID, 0.75, **key)).all()


def test_a_block_says_what_the_decoder_shall_predict_where_that_is_not_all(clips):
    mask = MaskConfig(kind="tube", ratio=0.75, predict="running_cell", predict_ratio=0.5)
    block = build_block(1, clips, replace(spec(), mask=mask))
    assert block["predict"].shape == (4, mask.num_predicted(GRID))
    assert block["predict"].dtype == np.int64
    assert (block["keep"] == build_block(1, clips, spec())["keep"]).all()


def test_a_block_is_the_same_when_built_again_and_on_an_object_store(clips, s3_bucket):
    remote = copy_to(s3_bucket, clips)
    for block in (0, 7):
        once = build_block(block, clips, spec())
        assert equal(once, build_block(block, clips, spec()))
        assert equal(once, build_block(block, remote, spec()))


def test_a_global_batch_has_the_same_pixels_however_it_is_divided(clips):
    whole = build_block(1, clips, spec(micro_batch=8))
    for micro_batch in (1, 2, 4):
        blocks = range(8 // micro_batch, 16 // micro_batch)
        parts = [build_block(block, clips, spec(micro_batch=micro_batch)) for block in blocks]
        assert all(
            np.array_equal(whole[key], np.concatenate([part[key] for part in parts]))
            for key in whole
            if key not in BESIDE
        )


def test_a_block_says_how_much_it_read_and_decoded(clips, tmp_path):
    block = build_block(1, clips, spec())
    stats = block["stats"]
    assert stats.read_bytes == sum(storage.size(row.uri) for row in clips.rows(block["sample"]))
    assert stats.decodes == 4
    assert 0 < stats.read_seconds < stats.seconds
    assert stats.cpu_seconds > 0

    missing = copy_to(str(tmp_path), clips)
    storage.delete(missing.rows(block["sample"][:1])[0].uri)
    other = build_block(1, missing, spec())
    [fault] = other["faults"]
    read = [*block["sample"][1:].tolist(), fault.replaced_by]  # the one in its stead is work, too
    assert other["stats"].read_bytes == sum(storage.size(row.uri) for row in missing.rows(np.array(read)))
    assert other["stats"].decodes == 4


def test_an_epoch_shows_every_sample_once_and_the_next_one_other_crops(clips):
    blocks = [build_block(block, clips, spec(micro_batch=5)) for block in range(4)]
    samples = np.concatenate([block["sample"] for block in blocks]).reshape(2, 10)
    pixels = np.concatenate([block["clips"] for block in blocks]).reshape(2, 10, -1)
    assert (np.sort(samples) == np.arange(10)).all()
    first, second = (pixels[epoch][np.argsort(samples[epoch])] for epoch in (0, 1))
    assert (first != second).any(axis=1).sum() >= 8


def repeated_blocks(catalog: Catalog, repeats: int, **changes: Any) -> dict[str, np.ndarray]:
    """Ten samples, three passes, `repeats` crops of each: the arrays of all blocks joined."""
    blocks = [
        build_block(block, catalog, spec(micro_batch=10, repeats=repeats, **changes))
        for block in range(3 * repeats)
    ]
    return {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0] if key not in BESIDE}


def test_k_crops_of_one_decode_are_counted_as_k_samples(clips):
    joined = repeated_blocks(clips, 5)
    assert np.unique(joined["sample"], return_counts=True)[1].tolist() == [3 * 5] * 10
    # Within each pass, which is five epochs long, every sample has five crops and five masks of its own.
    keys = set(zip(joined["epoch"].tolist(), joined["sample"].tolist(), strict=True))
    assert keys == {(epoch, sample) for epoch in range(15) for sample in range(10)}
    for views in (joined["clips"], joined["keep"]):
        assert np.mean([len({view.tobytes() for view in its}) for its in views.reshape(30, 5, -1)]) > 4
    labels = clips.table["label"].to_numpy()
    assert (joined["label"] == labels[joined["sample"]]).all()


def test_the_crops_of_one_decode_are_those_of_a_decode_for_each(clips, monkeypatch):
    """With the window of the first one; what is drawn per crop does not depend on the others."""
    joined = repeated_blocks(clips, 5)
    views = np.empty((1, 1, 4, 32, 32, 3), dtype=np.uint8)
    first = {int(e): int(e) // 5 * 5 for e in joined["epoch"]}
    rng = keys.rng
    monkeypatch.setattr(
        keys,
        "rng",
        lambda seed, e, sample, what: rng(seed, first[e] if what == "frames" else e, sample, what),
    )
    for row in range(0, 150, 7):
        epoch, sample = int(joined["epoch"][row]), int(joined["sample"][row])
        [its] = clips.rows(np.array([sample]))
        decode_views(Request(storage.read_bytes(its.uri), "video", sample, (epoch,)), spec().views, views[0])
        assert (views[0, 0] == joined["clips"][row]).all()


@pytest.mark.parametrize("micro_batch", [2, 4, 20])
def test_repeated_crops_do_not_depend_on_the_division_into_blocks(clips, micro_batch):
    whole = build_block(1, clips, spec(micro_batch=20, repeats=2))
    blocks = range(20 // micro_batch, 40 // micro_batch)
    parts = [build_block(block, clips, spec(micro_batch=micro_batch, repeats=2)) for block in blocks]
    joined = {key: np.concatenate([part[key] for part in parts]) for key in whole if key not in BESIDE}
    assert equal(whole, joined | dict.fromkeys(BESIDE))


def test_crops_of_one_sample_cannot_be_spread_over_blocks():
    with pytest.raises(ValueError, match="micro_batch must be a multiple of repeats = 3, got 4"):
        spec(repeats=3)


def test_an_evaluation_counts_every_sample_once_in_order(clips):
    evaluate = spec(train=False, mask=None)
    assert num_blocks(clips, evaluate) == 3
    blocks = [build_block(block, clips, evaluate) for block in range(3)]
    counted = np.concatenate([block["counted"] for block in blocks])
    samples = np.concatenate([block["sample"] for block in blocks])
    assert samples[counted].tolist() == list(range(10))
    assert samples[~counted].tolist() == [0, 0]
    assert "keep" not in blocks[0]
    assert (blocks[2]["clips"][2] == blocks[0]["clips"][0]).all()


def test_a_test_of_several_views_shows_every_view_of_every_sample_once(clips):
    views = ViewsConfig(clips=2, crops=3)
    wanted = spec(micro_batch=12, train=False, mask=None, test=views)
    assert num_blocks(clips, wanted) == 5
    blocks = [build_block(block, clips, wanted) for block in range(5)]
    samples = np.concatenate([block["sample"] for block in blocks])
    assert samples.tolist() == np.arange(10).repeat(6).tolist()
    assert np.concatenate([block["epoch"] for block in blocks]).tolist() == [*range(6)] * 10
    single = build_block(0, clips, spec(micro_batch=10, train=False, mask=None, test=ViewsConfig(crops=1)))
    assert blocks[0]["label"].tolist() == single["label"][:2].repeat(6).tolist()
    clips_SCX = blocks[0]["clips"].reshape(2, 2, 3, -1)
    assert (clips_SCX == clips_SCX[:, :, :1]).all()  # square pictures have one largest square crop
    assert len({clip.tobytes() for clip in clips_SCX[:, :, 0].reshape(4, -1)}) == 4


def test_a_sample_that_cannot_be_read_is_counted_in_none_of_its_views(clips, tmp_path):
    broken = corrupted(clips, str(tmp_path), 1)
    block = build_block(0, broken, spec(micro_batch=6, train=False, mask=None, test=ViewsConfig(clips=2)))
    assert block["counted"].tolist() == [True, True, False, False, True, True]
    assert [fault.sample for fault in block["faults"]] == [1]


def test_images_are_clips_of_one_frame(tmp_path, make_image):
    catalog = image_shards(str(tmp_path), make_image)
    images = spec(
        input=InputConfig(height=16, width=16),
        augment=AugmentConfig(),
        mask=MaskConfig(),
        grid=Grid(frames=1, rows=4, columns=4),
    )
    block = build_block(0, catalog, images)
    assert block["clips"].shape == (4, 1, 16, 16, 3)
    assert block["keep"].shape == (4, 4)


IMAGES: dict[str, Any] = {
    "input": InputConfig(height=16, width=16),
    "augment": AugmentConfig(),
    "mask": None,
    "grid": Grid(frames=1, rows=4, columns=4),
}


def test_neighbours_in_a_shard_are_read_with_one_request(tmp_path, make_image, monkeypatch):
    catalog = image_shards(str(tmp_path), make_image)
    assert catalog.chunk == 4
    build_block(0, catalog, spec(**IMAGES))  # footers are read by now
    for part in range(2):
        shards.open_shard(f"{tmp_path}/{part}.parquet")
    shards._row_group.cache_clear()
    requests = []
    read_bytes = storage.read_bytes

    def counting(uri, **span):
        requests.append((uri, span))
        return read_bytes(uri, **span)

    monkeypatch.setattr(storage, "read_bytes", counting)
    block = build_block(3, catalog, spec(**IMAGES))
    assert len(set(block["sample"] // 4)) == 1
    assert len(requests) == 1
    assert requests[0][1]["length"] < storage.size(requests[0][0]) / 2


def corrupted(catalog: Catalog, place: str, *samples: int) -> Catalog:
    copy = copy_to(place, catalog)
    for row in copy.rows(np.array(samples)):
        data = bytearray(storage.read_bytes(row.uri))
        data[40:] = bytes(len(data) - 40)
        storage.write_bytes(row.uri, bytes(data))
    return copy


def test_a_corrupt_sample_is_named_and_replaced_by_the_same_other_one_each_time(clips, tmp_path):
    broken = corrupted(clips, str(tmp_path), 4)
    whole = spec(micro_batch=10)
    block, expected = build_block(0, broken, whole), build_block(0, clips, whole)
    [fault] = block["faults"]
    assert (fault.sample, fault.uri) == (4, broken.rows(np.array([4]))[0].uri)
    assert fault.reason.startswith("not a readable video")
    assert fault.replaced_by != 4
    assert block["faults"] == build_block(0, broken, whole)["faults"]
    assert equal(block, build_block(0, broken, whole))

    place = block["sample"].tolist().index(4)
    others = np.arange(10) != place
    assert (block["clips"][others] == expected["clips"][others]).all()
    assert (block["keep"] == expected["keep"]).all()
    assert block["label"][place] == broken.table["label"][fault.replaced_by].as_py()
    assert block["counted"].all()


def test_the_replacement_does_not_depend_on_the_division_into_blocks(clips, tmp_path):
    broken = corrupted(clips, str(tmp_path), 4, 5, 6)
    whole = build_block(0, broken, spec(micro_batch=10))
    parts = [build_block(block, broken, spec(micro_batch=2)) for block in range(5)]
    assert whole["faults"] == [fault for part in parts for fault in part["faults"]]
    assert (whole["clips"] == np.concatenate([part["clips"] for part in parts])).all()


def test_a_corrupt_sample_is_one_fault_and_one_replacement_for_all_its_crops(clips, tmp_path):
    broken = corrupted(clips, str(tmp_path), 4)
    block = build_block(0, broken, spec(micro_batch=40, repeats=4))
    expected = build_block(0, clips, spec(micro_batch=40, repeats=4))
    [fault] = block["faults"]
    places = block["sample"] == 4
    assert (fault.sample, places.sum()) == (4, 4)
    assert (block["label"][places] == broken.table["label"][fault.replaced_by].as_py()).all()
    assert (block["clips"][~places] == expected["clips"][~places]).all()
    assert (block["keep"] == expected["keep"]).all()


def test_a_file_beyond_the_limit_is_a_fault_and_is_not_read_whole(clips, monkeypatch):
    lengths = []
    read_bytes = storage.read_bytes

    def noting(uri, **span):
        data = read_bytes(uri, **span)
        lengths.append(len(data))
        return data

    monkeypatch.setattr(storage, "read_bytes", noting)
    with pytest.raises(FaultBudgetError, match="more than 1,000 bytes"):
        build_block(0, clips, spec(limits=DecodeLimits(bytes=1000)))
    assert set(lengths) == {1001}


def test_an_evaluation_does_not_count_a_sample_it_could_not_read(clips, tmp_path):
    broken = corrupted(clips, str(tmp_path), 4)
    block = build_block(0, broken, spec(train=False, micro_batch=10))
    assert block["sample"][~block["counted"]].tolist() == [4]
    assert [fault.sample for fault in block["faults"]] == [4]


def test_a_missing_file_is_a_fault(clips, place):
    copy = copy_to(place, clips)
    storage.delete(copy.rows(np.array([2]))[0].uri)
    [fault] = build_block(0, copy, spec(micro_batch=10))["faults"]
    assert (fault.sample, fault.reason) == (2, "the file is missing")


def test_corrupt_rows_and_missing_shards_are_faults(tmp_path, make_image):
    def image(value: int) -> bytes:
        return b"" if value == 5 else make_image(value)

    catalog = image_shards(str(tmp_path), image)
    block = build_block(0, catalog, spec(micro_batch=24, **IMAGES))
    assert [(fault.sample, fault.reason) for fault in block["faults"]] == [(5, "the file is empty")]

    storage.delete(f"{tmp_path}/1.parquet")
    shards.open_shard.cache_clear()
    shards._row_group.cache_clear()
    block = build_block(0, catalog, spec(micro_batch=24, **IMAGES))
    assert {fault.sample for fault in block["faults"]} == {5, *range(12, 24)}
    assert {fault.reason for fault in block["faults"]} == {"the file is empty", "the shard is missing"}


def test_when_nothing_can_be_read_the_block_fails_and_names_files(clips, tmp_path):
    broken = corrupted(clips, str(tmp_path), *range(10))
    with pytest.raises(FaultBudgetError, match=r"and 8 others drawn in its stead") as caught:
        build_block(0, broken, spec())
    assert str(caught.value).count("not a readable video") == 9


def test_a_place_that_cannot_be_reached_is_an_error_and_no_fault(clips, monkeypatch):
    def refuse(uri, **span):
        raise storage.StorageError(f"{uri}: cannot read: no answer")

    monkeypatch.setattr(storage, "read_bytes", refuse)
    with pytest.raises(storage.StorageError, match="no answer"):
        build_block(0, clips, spec())
