"""Boxes go where the pixels of their people go."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mae_dist import storage
from mae_dist.config.geometry import Grid
from mae_dist.config.schema import AugmentConfig, InputConfig, ViewsConfig
from mae_dist.data.batch import StreamSpec, build_block
from mae_dist.data.boxes import BoxSpec
from mae_dist.data.catalog import Catalog
from mae_dist.data.views import Request, ViewSpec, decode_framed, framed_bytes, split_framed

HEIGHT, WIDTH = 120, 200
PEOPLE = {"tall": (0.1, 0.2, 0.3, 0.9), "wide": (0.55, 0.5, 0.95, 0.7)}
"""Each alone in a picture."""


def picture(corners: tuple[float, ...]) -> bytes:
    """A white rectangle on black."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    x1, y1, x2, y2 = (round(place * side) for place, side in zip(corners, (WIDTH, HEIGHT) * 2, strict=True))
    pixels[y1:y2, x1:x2] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def box(corners: tuple[float, ...], *labels: int) -> dict[str, Any]:
    return dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True)) | {"person": 1, "labels": list(labels)}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> Catalog:
    """Two keyframes with one person each, and one with nobody."""
    folder = str(tmp_path_factory.mktemp("people"))
    boxes = [[box(PEOPLE["tall"], 0, 2)], [box(PEOPLE["wide"], 1)], []]
    for name, corners in [*PEOPLE.items(), ("none", (0, 0, 0, 0))]:
        storage.write_bytes(storage.join(folder, f"{name}.png"), picture(corners))
    return Catalog.of(
        keys=["m/0001", "m/0002", "m/0003"],
        uris=[storage.join(folder, f"{name}.png") for name in ("tall", "wide", "none")],
        media="image",
        labels=[-1] * 3,
        classes=["sit", "talk", "dance"],
        times=[1.0, 2.0, 3.0],
        boxes=boxes,
    )


def spec(boxes: BoxSpec, **changes: Any) -> StreamSpec:
    settings: dict[str, Any] = {
        "seed": 5,
        "micro_batch": 3,
        "input": InputConfig(frames=2, height=96, width=96),
        "augment": AugmentConfig(crop="anywhere", side=(0.7, 0.9), interpolation="bilinear", flip=True),
        "mask": None,
        "grid": Grid(frames=1, rows=6, columns=6),
        "train": True,
        "boxes": boxes,
    } | changes
    return StreamSpec(**settings)


def lit(clip: np.ndarray) -> np.ndarray:
    """Corners of what is white in a clip, in pixels."""
    rows, columns = (np.flatnonzero((clip[0, ..., 0] > 127).any(axis=axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


PLAIN = BoxSpec()
STILL = BoxSpec(jitter=(0.0, 0.0, 0.0, 0.0))


@pytest.mark.parametrize("crop", ["anywhere", "random_resized", "multi_scale", "center"])
def test_a_training_box_is_cropped_and_mirrored_with_its_person(catalog, crop):
    augmentation = AugmentConfig(crop=crop, scale=(0.3, 1.0), side=(0.6, 1.0), interpolation="bilinear")
    seen = set()
    for number in range(12):
        block = build_block(number, catalog, spec(STILL, augment=augmentation))
        for view in range(3):
            has_person = block["is_box"][view, 0]
            assert has_person == (block["clips"][view].max() > 127)
            if has_person:
                corners = block["boxes"][view, 0]
                assert np.abs(corners - lit(block["clips"][view])).max() < 1.6
                seen.add((int(block["sample"][view]), *np.rint(corners).tolist()))
    assert len(seen) > 12 if crop != "center" else len(seen) >= 4  # mirrored or not


def test_actions_stand_beside_their_box_and_places_without_a_box_are_marked(catalog):
    block = build_block(0, catalog, spec(STILL, augment=AugmentConfig(crop="center")))
    assert block["boxes"].shape == (3, 1, 4)
    by_sample = {sample: view for view, sample in enumerate(block["sample"].tolist())}
    assert [block["actions"][by_sample[sample], 0].tolist() for sample in range(3)] == [
        [1, 0, 1],
        [0, 1, 0],
        [0, 0, 0],
    ]
    assert not block["is_box"][by_sample[2]].any()
    assert (block["shown"] == 96).all()


def test_a_moved_box_stays_within_its_bounds_and_the_view_and_moves_the_same_every_time(catalog):
    jitter = (0.2, 0.1, 0.1, 0.05)
    moved = set()
    for number in range(12):
        still, loose = (
            build_block(number, catalog, spec(BoxSpec(jitter=amounts))) for amounts in ((0.0,) * 4, jitter)
        )
        assert (still["is_box"] == loose["is_box"]).all()
        for view in np.flatnonzero(still["is_box"][:, 0]):
            before, after = still["boxes"][view, 0], loose["boxes"][view, 0]
            width, height = before[2:] - before[:2]
            outwards = (before - after) * [1, 1, -1, -1] / [width, height, width, height]
            assert (outwards <= np.array([0.2, 0.1, 0.2, 0.1]) + 1e-5).all()
            assert (outwards >= -np.array([0.1, 0.05, 0.1, 0.05]) - 1e-5).all()
            assert after.min() >= 0
            assert after.max() <= 96
            moved.update(outwards.tolist())
        again = build_block(number, catalog, spec(BoxSpec(jitter=jitter)))
        assert (again["boxes"] == loose["boxes"]).all()
    assert len(moved) > 40


def test_a_test_shows_the_whole_frame_in_the_upper_left_and_its_boxes_there(catalog):
    size = InputConfig(frames=2, height=64, width=160)
    block = build_block(0, catalog, spec(PLAIN, train=False, whole=True, input=size))
    assert block["clips"].shape == (3, 2, 64, 160, 3)
    assert block["shown"].tolist() == [[64, 107]] * 3
    for view in (0, 1):
        assert np.abs(block["boxes"][view, 0] - lit(block["clips"][view])).max() < 1.1
    assert not block["clips"][:, :, :, 107:].any()


def test_a_frame_that_is_too_wide_is_scaled_further_down(catalog):
    size = InputConfig(frames=2, height=64, width=80)
    block = build_block(0, catalog, spec(PLAIN, train=False, whole=True, input=size))
    assert block["shown"].tolist() == [[48, 80]] * 3


def test_a_box_grows_in_a_test_but_not_beyond_what_is_shown(catalog):
    size = InputConfig(frames=2, height=120, width=200)
    growing = BoxSpec(growth=(0.5, 1.0))
    block = build_block(0, catalog, spec(growing, train=False, whole=True, input=size))
    assert block["boxes"][0, 0] == pytest.approx([10, 0, 70, 120], abs=1e-3)
    assert block["boxes"][1, 0] == pytest.approx([90, 48, 200, 96], abs=1e-3)


def test_views_of_a_test_are_framed_one_by_one():
    size = InputConfig(frames=1, height=60, width=60)
    test = ViewSpec(seed=0, input=size, augment=AugmentConfig(), test=ViewsConfig(crops=3))
    written = np.zeros((3, framed_bytes(size)), np.uint8)
    decode_framed(Request(picture(PEOPLE["tall"]), "image", 0, (0, 1, 2)), test, written)
    views, framings = split_framed(written, size)
    assert views.shape == (3, 1, 60, 60, 3)
    assert [framing.x_offset for framing in framings] == [0, -20, -40]
    assert {framing.x_scale for framing in framings} == {100}


def test_an_unreadable_keyframe_takes_the_boxes_of_the_one_in_its_stead(catalog, tmp_path):
    rows = catalog.rows(np.arange(2))
    storage.write_bytes(f"{tmp_path}/broken.png", b"no picture")
    broken = Catalog.of(
        keys=["m/0001", "m/0002"],
        uris=[f"{tmp_path}/broken.png", rows[1].uri],
        media="image",
        labels=[-1, -1],
        classes=catalog.classes,
        times=[1.0, 2.0],
        boxes=[row.boxes or [] for row in rows],
    )
    block = build_block(0, broken, spec(STILL, augment=AugmentConfig(crop="center"), micro_batch=2))
    [fault] = block["faults"]
    assert (fault.sample, fault.replaced_by) == (0, 1)
    assert block["actions"][:, 0].tolist() == [[0, 1, 0]] * 2
