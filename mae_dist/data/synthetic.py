"""Moving clips for the demo and for tests: the label is the motion, and no single frame gives it away.

A scene is two layers on a torus: textured shapes, and a textured background that drifts on its own. The
shapes leave on one side and come back on the other. Their start is uniform on the torus, so every frame of
every motion is drawn from the same distribution; only the change from frame to frame tells the motion, and
playing a clip backwards gives a clip of the opposite motion. Positions are whole numbers of quarter pixels,
which makes these statements exact and not only approximate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mae_dist import storage
from mae_dist.data import keys
from mae_dist.data.video import encode_h264

MOTIONS: dict[str, tuple[int, int]] = {
    "right": (0, 1),
    "left": (0, -1),
    "down": (1, 0),
    "up": (-1, 0),
    "down_right": (1, 1),
    "up_left": (-1, -1),
    "down_left": (1, -1),
    "up_right": (-1, 1),
}
"""Name -> direction (rows, columns). Each is followed by its opposite."""

_QUARTERS = 4
_NUM_SHAPES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What a clip shows, before anything moves. Places and speeds in quarter pixels (rows, columns)."""

    shapes: np.ndarray
    """float32 (S, S, 4): colour in [0, 1] times coverage, and coverage."""
    background: np.ndarray
    """float32 (S, S, 3) in [0, 1]."""
    start: tuple[int, int]
    speed: int
    """Of the shapes, per frame, along the direction of the motion."""
    background_start: tuple[int, int]
    background_velocity: tuple[int, int]


def draw_scene(rng: np.random.Generator, *, size: int) -> Scene:
    """A random scene of size x size pixels; nothing in it depends on a motion."""
    coverage = np.zeros((size, size, 1), dtype=np.float32)
    for _ in range(_NUM_SHAPES):
        coverage = np.maximum(coverage, _shape(rng, size))
    start = rng.integers(_QUARTERS * size, size=4)
    drift = rng.integers(-4, 5, size=2)
    return Scene(
        shapes=np.concatenate([_texture(rng, size, detail=(2.0, 6.0)) * coverage, coverage], axis=2),
        # Broad enough that a patch tells something of its neighbours: a model learns that within minutes.
        background=_texture(rng, size, detail=(0.6, 0.9)),
        start=(int(start[0]), int(start[1])),
        speed=int(rng.integers(4, 11)),
        background_start=(int(start[2]), int(start[3])),
        background_velocity=(int(drift[0]), int(drift[1])),
    )


def render(scene: Scene, motion: str, *, frames: int) -> np.ndarray:
    """The scene in motion: uint8 (T, S, S, 3)."""
    rows, columns = MOTIONS[motion]
    size = len(scene.background)
    clip = np.empty((frames, size, size, 3), dtype=np.uint8)
    for t in range(frames):
        moved = (
            scene.start[0] + rows * scene.speed * t,
            scene.start[1] + columns * scene.speed * t,
        )
        drifted = (
            scene.background_start[0] + scene.background_velocity[0] * t,
            scene.background_start[1] + scene.background_velocity[1] * t,
        )
        shapes, background = _shift(scene.shapes, moved), _shift(scene.background, drifted)
        clip[t] = np.rint(255 * (shapes[..., :3] + (1 - shapes[..., 3:]) * background))
    return clip


def moving_clip(rng: np.random.Generator, motion: int, *, frames: int = 16, size: int = 64) -> np.ndarray:
    """A random clip with the motion of that number (in the order of MOTIONS): uint8 (T, size, size, 3)."""
    return render(draw_scene(rng, size=size), list(MOTIONS)[motion], frames=frames)


def write_moving_clips(
    folder_uri: str, num_clips: int, seed: int, *, frames: int = 16, size: int = 64, fps: int = 8
) -> str:
    """Write H.264 files `clip-000000.mp4`, ... and `list.csv` (path,motion); returns the URI of the list.

    Motions take turns, so classes are balanced. Clip i depends on (seed, i) and the keyword arguments alone.
    """
    names = list(MOTIONS)
    lines = []
    for index in range(num_clips):
        motion = index % len(names)
        clip = moving_clip(keys.rng(seed, 0, index, "moving clip"), motion, frames=frames, size=size)
        name = f"clip-{index:06d}.mp4"
        storage.write_bytes(storage.join(folder_uri, name), encode_h264(clip, fps))
        lines.append(f"{name},{names[motion]}\n")
    list_uri = storage.join(folder_uri, "list.csv")
    storage.write_bytes(list_uri, "".join(lines).encode())
    return list_uri


def _shift(layer: np.ndarray, by: tuple[int, int]) -> np.ndarray:
    """The layer moved down and right on the torus by quarter pixels, interpolated linearly."""
    for axis, quarters in enumerate(by):
        whole, rest = divmod(quarters, _QUARTERS)
        whole %= layer.shape[axis]
        moved = np.roll(layer, whole, axis)
        if rest:
            share = np.float32(rest / _QUARTERS)
            moved = moved * (1 - share) + np.roll(layer, whole + 1, axis) * share
        layer = moved
    return layer


def _texture(rng: np.random.Generator, size: int, *, detail: tuple[float, float]) -> np.ndarray:
    """Smooth random colour, float32 (S, S, 3) in [0, 1], without a seam at the borders.

    `detail` bounds how many waves fit across the picture.
    """
    rows, columns = np.fft.fftfreq(size) * size, np.fft.rfftfreq(size) * size
    radius = np.hypot(rows[:, None], columns[None, :])
    weights = np.exp(-((radius / rng.uniform(*detail)) ** 2))
    weights[0, 0] = 0
    noise = rng.standard_normal((size, size, 3))
    waves = np.fft.irfft2(np.fft.rfft2(noise, axes=(0, 1)) * weights[..., None], s=(size, size), axes=(0, 1))
    waves *= rng.uniform(0.1, 0.25) / waves.std()
    return np.clip(rng.uniform(0.2, 0.8, 3) + waves, 0, 1).astype(np.float32)


def _shape(rng: np.random.Generator, size: int) -> np.ndarray:
    """Coverage (S, S, 1) of one disc, square or ring somewhere on the torus, with soft edges."""
    place = rng.uniform(0, size, 2)
    radius = rng.uniform(0.09, 0.16) * size
    away = np.abs(np.arange(size)[None] - place[:, None])
    rows, columns = np.minimum(away, size - away)
    match rng.integers(3):
        case 0:
            distance = np.hypot(rows[:, None], columns[None, :])
        case 1:
            distance = np.maximum(rows[:, None], columns[None, :])
        case _:
            distance = 2 * np.abs(np.hypot(rows[:, None], columns[None, :]) - 0.75 * radius)
    return np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)[..., None]
