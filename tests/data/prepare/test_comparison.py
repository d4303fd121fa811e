"""What the comparison of before and after says; how long anything takes is never asserted."""

from __future__ import annotations

import numpy as np
import pytest

from mae_dist import storage
from mae_dist.data.limits import DecodeError
from mae_dist.data.prepare import compare
from mae_dist.data.prepare.comparison import save
from mae_dist.data.readers import build_catalog
from tests.data.prepare.sources import encoded, prepare_here, write_images


@pytest.fixture
def images(tmp_path):
    return write_images(str(tmp_path / "images"), 12)


def test_all_samples_are_compared_where_there_are_fewer_than_asked_for(images, tmp_path):
    outcome = prepare_here(images, str(tmp_path / "out"))
    found = compare(images, outcome, media="image", num_samples=100, seed=0)
    assert found.samples == 12
    assert found.bytes_before == pytest.approx(np.mean([len(data) for data in encoded(images).values()]))
    assert found.bytes_after == pytest.approx(
        np.mean([len(data) for data in encoded(outcome.catalog).values()])
    )
    assert found.decode_ms_before > 0 < found.decode_ms_after


def test_the_samples_are_drawn_by_seed(images, tmp_path):
    outcome = prepare_here(images, str(tmp_path / "out"))
    means = {compare(images, outcome, media="image", num_samples=3, seed=n).bytes_before for n in (0, 0, 1)}
    assert len(means) == 2


def test_images_that_were_kept_do_not_differ(images, tmp_path):
    kept = prepare_here(images, str(tmp_path / "kept"), short_side=256)
    assert compare(images, kept, media="image", num_samples=4, seed=0).pixel_difference == 0
    coarse = prepare_here(images, str(tmp_path / "coarse"), quality=5)
    fine = prepare_here(images, str(tmp_path / "fine"), quality=95)
    differences = [
        compare(images, its, media="image", num_samples=12, seed=0).pixel_difference for its in (fine, coarse)
    ]
    assert 0 < differences[0] < 0.5 * differences[1]


def test_the_same_frames_of_a_video_are_compared(tmp_path, make_video):
    storage.write_bytes(f"{tmp_path}/videos/a.mp4", make_video(num_frames=30))
    source = build_catalog(f"{tmp_path}/videos")
    near = prepare_here(source, str(tmp_path / "near"), short_side=48, quality=1)
    far = prepare_here(source, str(tmp_path / "far"), short_side=48, quality=51)
    differences = [
        compare(source, its, media="video", num_samples=1, seed=0).pixel_difference for its in (near, far)
    ]
    assert differences[0] < 2
    assert differences[1] > 10


def test_it_is_written_with_its_ratios(images, tmp_path):
    outcome = prepare_here(images, str(tmp_path / "out"))
    found = compare(images, outcome, media="image", num_samples=2, seed=0)
    save(str(tmp_path / "out"), found)
    written = storage.read_json(str(tmp_path / "out" / "comparison.json"))
    assert written["bytes_ratio"] == pytest.approx(found.bytes_after / found.bytes_before)
    assert written["decode_speedup"] == pytest.approx(found.decode_ms_before / found.decode_ms_after)
    assert written["decoding"] == "a random resized crop of 224, bicubic"


def test_a_sample_that_is_gone_meanwhile_is_named(images, tmp_path):
    outcome = prepare_here(images, str(tmp_path / "out"))
    storage.delete_tree(str(tmp_path / "images"))
    with pytest.raises(DecodeError, match=r"images/odd/0011\.jpg \(odd/0011\.jpg\): the file is missing"):
        compare(images, outcome, media="image", num_samples=12, seed=0)
