"""Moving clips whose label is the motion, and whose single frames do not give it away."""

from __future__ import annotations

import dataclasses
import io

import av
import numpy as np
import pytest

from mae_dist import storage
from mae_dist.data.readers import build_catalog
from mae_dist.data.synthetic import MOTIONS, Scene, draw_scene, moving_clip, render, write_moving_clips
from mae_dist.data.video import read_clip

FRAMES = 8
NAMES = list(MOTIONS)


def scene(seed: int = 0) -> Scene:
    return draw_scene(np.random.default_rng(seed), size=32)


def moved(scene: Scene, motion: str, steps: int, **changes) -> Scene:
    """The same scene, started where `motion` has taken it after so many frames."""
    rows, columns = MOTIONS[motion]
    start, background_start = scene.start, scene.background_start
    velocity = scene.background_velocity
    return dataclasses.replace(
        scene,
        start=(start[0] + rows * scene.speed * steps, start[1] + columns * scene.speed * steps),
        background_start=(
            background_start[0] + velocity[0] * steps,
            background_start[1] + velocity[1] * steps,
        ),
        **changes,
    )


@pytest.mark.parametrize("motion", NAMES)
def test_a_clip_played_backwards_is_a_clip_of_the_opposite_motion(motion):
    opposite = NAMES[NAMES.index(motion) ^ 1]
    forwards = scene()
    drift = forwards.background_velocity
    backwards = moved(forwards, motion, FRAMES - 1, background_velocity=(-drift[0], -drift[1]))
    expected = render(backwards, opposite, frames=FRAMES)
    assert (render(forwards, motion, frames=FRAMES)[::-1] == expected).all()


@pytest.mark.parametrize("other", NAMES)
def test_any_frame_of_any_motion_is_a_frame_of_every_other_motion(other):
    # Starts are uniform on the torus, so a scene that is merely started elsewhere is as likely.
    for motion in NAMES:
        for t in (0, 3, FRAMES - 1):
            frame = render(scene(), motion, frames=FRAMES)[t]
            elsewhere = moved(moved(scene(), motion, t), other, -t)
            drift = scene().background_velocity
            began = scene().background_start
            elsewhere = dataclasses.replace(elsewhere, background_start=began, background_velocity=drift)
            assert (render(elsewhere, other, frames=FRAMES)[t] == frame).all()


def test_starts_are_uniform_and_scenes_know_no_motion():
    starts = np.array([scene(seed).start for seed in range(600)])
    counts, _, _ = np.histogram2d(starts[:, 0], starts[:, 1], bins=4, range=[[0, 128], [0, 128]])
    assert counts.min() > 12
    assert counts.max() < 70
    first = [moving_clip(np.random.default_rng(3), motion, frames=2, size=32)[0] for motion in range(8)]
    assert all((frame == first[0]).all() for frame in first)


@pytest.mark.parametrize("motion", NAMES)
def test_the_shapes_move_as_the_label_says(motion):
    still = dataclasses.replace(
        scene(), background=np.full((32, 32, 3), 0.5, np.float32), speed=4, background_velocity=(0, 0)
    )
    clip = render(still, motion, frames=FRAMES)
    for t in range(FRAMES):
        step = (MOTIONS[motion][0] * t, MOTIONS[motion][1] * t)
        assert (clip[t] == np.roll(clip[0], step, axis=(0, 1))).all()  # speed 4 is one pixel per frame


def test_written_clips_are_h264_files_with_a_balanced_list_of_labels(tmp_path):
    uri = write_moving_clips(str(tmp_path), 16, seed=5, frames=FRAMES, size=32)
    catalog = build_catalog(uri)
    assert catalog.classes == tuple(sorted(NAMES))
    assert np.bincount(catalog.table["label"].to_numpy()).tolist() == [2] * 8
    for row in catalog.rows(np.arange(16)):
        data = storage.read_bytes(row.uri)
        with av.open(io.BytesIO(data)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
        assert read_clip(data, lambda seconds: np.arange(len(seconds))).shape == (FRAMES, 32, 32, 3)


def test_written_clips_depend_on_the_seed_alone(tmp_path):
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        write_moving_clips(str(tmp_path / name), 3, seed=seed, frames=4, size=32)
    read = {name: (tmp_path / name / "clip-000001.mp4").read_bytes() for name in "abc"}
    assert read["a"] == read["b"] != read["c"]
