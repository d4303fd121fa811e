"""Videos and images in one stream, as the ranks receive it: the same for any number of them."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mae_dist import storage
from mae_dist.config.geometry import Grid
from mae_dist.config.schema import AugmentConfig, InputConfig, MaskConfig
from mae_dist.data.batch import StreamSpec, build_block
from mae_dist.data.catalog import Catalog
from mae_dist.data.mix import Mix
from mae_dist.data.readers import build_catalog
from mae_dist.data.synthetic import write_moving_clips
from mae_dist.data.turns import PERIOD
from mae_dist.train.feed import digest

NUM_CLIPS, NUM_IMAGES = 6, 24
GLOBAL_BATCH = 16
SPEC = StreamSpec(
    seed=3,
    micro_batch=4,
    input=InputConfig(frames=4, frame_stride=2, height=32, width=32),
    augment=AugmentConfig(crop="multi_scale"),
    mask=MaskConfig(kind="tube", ratio=0.75),
    grid=Grid(frames=2, rows=4, columns=4),
    train=True,
    repeats=2,
)


@pytest.fixture(scope="module")
def mix(tmp_path_factory, make_image) -> Mix:
    """Clips in files of their own and shards of images, a quarter of the stream; images come first."""
    folder = tmp_path_factory.mktemp("sources")
    clips = build_catalog(write_moving_clips(f"{folder}/clips", NUM_CLIPS, seed=0, frames=12, size=32))
    for part in range(2):
        images = [make_image(100 * part + row) for row in range(NUM_IMAGES // 2)]
        file = io.BytesIO()
        pq.write_table(pa.table({"image": images, "label": [0] * len(images)}), file, row_group_size=4)
        storage.write_bytes(f"{folder}/images/{part}.parquet", file.getvalue())
    images = build_catalog(f"{folder}/images")
    return Mix.of({"clips": clips, "an image": images}, {"clips": 0.75, "an image": 0.25})


def received(mix: Mix, workers: int, steps: range) -> dict[int, list[str]]:
    """By step, the digests of the micro-batches in their order; block j goes to rank j mod world."""
    per_step = GLOBAL_BATCH // SPEC.micro_batch
    by_rank = {
        rank: {
            block: digest(build_block(block, mix, SPEC))
            for block in range(steps.start * per_step, steps.stop * per_step)
            if block % workers == rank
        }
        for rank in range(workers)
    }
    blocks = {block: its for received in by_rank.values() for block, its in received.items()}
    return {step: [blocks[step * per_step + j] for j in range(per_step)] for step in steps}


def test_any_worker_count_receives_the_same_stream_from_any_step_on(mix):
    alone = received(mix, 1, range(3))
    assert received(mix, 2, range(3)) == alone
    assert received(mix, 4, range(1, 3)) == {step: alone[step] for step in (1, 2)}


def test_images_stand_still_among_videos_that_move(mix):
    blocks = [build_block(block, mix, SPEC) for block in range(8)]
    samples = np.concatenate([block["sample"] for block in blocks])
    clips = np.concatenate([block["clips"] for block in blocks])
    is_image = samples < NUM_IMAGES
    assert 0 < is_image.sum() < len(samples)
    for clip, stands in zip(clips, is_image, strict=True):
        assert (clip == clip[0]).all() == stands


def test_a_batch_holds_the_shares_and_both_crops_of_each_sample(mix):
    samples = np.concatenate([build_block(block, mix, SPEC)["sample"] for block in range(24)])
    assert (samples[::2] == samples[1::2]).all()
    num_draws = len(samples) // 2
    assert abs((samples[::2] < NUM_IMAGES).sum() - num_draws / 4) < PERIOD / 2 + 1.5


def test_an_unreadable_sample_is_replaced_by_one_of_its_source(mix, tmp_path):
    """Otherwise broken videos would let images have more than their share."""
    images, clips = mix.parts
    table = clips.catalog.table
    uris = table["uri"].to_pylist()
    for number in range(3):
        storage.write_bytes(f"{tmp_path}/{number}.mp4", b"broken")
        uris[number] = f"{tmp_path}/{number}.mp4"
    broken = table.set_column(1, table.schema.field("uri"), pa.array(uris).dictionary_encode())
    catalog = Catalog(broken, clips.catalog.classes, clips.catalog.chunk)
    damaged = Mix((images, replace(clips, catalog=catalog)))
    faults = [fault for block in range(6) for fault in build_block(block, damaged, SPEC)["faults"]]
    assert faults
    for fault in faults:
        assert NUM_IMAGES <= fault.sample < NUM_IMAGES + 3
        assert fault.replaced_by >= NUM_IMAGES
        assert fault.uri == uris[fault.sample - NUM_IMAGES]


def test_neighbours_in_a_shard_stay_together_in_a_mix(mix):
    """The four images of a row group come one after the other, however many videos stand between them."""
    order = mix.order(SPEC.seed, 1)
    _, samples = order.at(np.arange(4 * NUM_IMAGES))
    groups = samples[samples < NUM_IMAGES] // mix.parts[0].catalog.chunk
    assert mix.parts[0].catalog.chunk == 4
    assert np.count_nonzero(np.diff(groups)) + 1 <= NUM_IMAGES // 4 + 1
