"""Boxes of people, moved as the pixels of their keyframe are: cropped, mirrored, scaled.

    parts of the source frame -> pixels of the view -> moved at random (training) or grown (test)

Letters: m views of a block, P places for boxes in a view, N boxes of a view, 4 corners x1, y1, x2, y2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mae_dist.data import keys
from mae_dist.data.transforms import Box

CORNERS = ("x1", "y1", "x2", "y2")


class Framing(NamedTuple):
    """Where a view shows what of its source.

    A place x, in parts of the source's width, lies at `x * x_scale + x_offset` pixels of the view.
    """

    x_scale: float
    x_offset: float
    y_scale: float
    y_offset: float
    height: float
    """Pixels of the view, from its upper left corner, that show the source."""
    width: float

    @classmethod
    def of(
        cls,
        box: Box,
        source_height: int,
        source_width: int,
        height: int,
        width: int,
        *,
        is_flipped: bool = False,
    ) -> Framing:
        """`box` of the source, resampled to height x width, and then mirrored left to right or not."""
        x_scale, x_offset = source_width / box.width * width, -box.left / box.width * width
        if is_flipped:
            x_scale, x_offset = -x_scale, width - x_offset
        y_scale, y_offset = source_height / box.height * height, -box.top / box.height * height
        return cls(x_scale, x_offset, y_scale, y_offset, height, width)


FRAMING_BYTES = np.dtype(np.float64).itemsize * len(Framing._fields)


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxSpec:
    """What becomes of the boxes of a keyframe."""

    jitter: tuple[float, float, float, float] | None = None
    """Of training boxes, see DetectionConfig; None: none."""
    growth: tuple[float, float] = (0.0, 0.0)


def block_boxes(
    boxes: Sequence[Sequence[dict[str, Any]]],
    framings: Sequence[Framing],
    spec: BoxSpec,
    *,
    num_actions: int,
    places: int,
    seed: int,
    epochs: np.ndarray,
    samples: np.ndarray,
) -> dict[str, np.ndarray]:
    """Arrays of the boxes of m views, up to P = `places` each, in the order in which they are given.

    boxes float32 (m, P, 4) in pixels of the view, within what it shows; is_box bool (m, P); actions uint8
    (m, P, num_actions), 1 for what the person does; shown int64 (m, 2), height and width of what the view
    shows. With jitter, a person who is outside of the view is no box (VideoMAE's code keeps an empty box).
    """
    m = len(framings)
    corners_mP4 = np.zeros((m, places, 4), dtype=np.float32)
    is_box_mP = np.zeros((m, places), dtype=bool)
    actions_mPA = np.zeros((m, places, num_actions), dtype=np.uint8)
    for view, (its, framing) in enumerate(zip(boxes, framings, strict=True)):
        given_N4 = np.array([[box[name] for name in CORNERS] for box in its]).reshape(-1, 4)
        moved_N4 = clipped(placed(given_N4, framing), framing)
        is_there_N = np.ones(len(its), dtype=bool)
        if spec.jitter is None:
            moved_N4 = grown(moved_N4, spec.growth)
        else:
            is_there_N = (moved_N4[:, :2] < moved_N4[:, 2:]).all(axis=1)
            rng = keys.rng(seed, int(epochs[view]), int(samples[view]), "boxes")
            moved_N4 = jittered(moved_N4, spec.jitter, rng)
        corners_mP4[view, : len(its)] = clipped(moved_N4, framing)
        is_box_mP[view, : len(its)] = is_there_N
        for place, box in enumerate(its):
            actions_mPA[view, place, box["labels"]] = 1
    shown_m2 = np.array([(framing.height, framing.width) for framing in framings], dtype=np.int64)
    return {"boxes": corners_mP4, "is_box": is_box_mP, "actions": actions_mPA, "shown": shown_m2}


def placed(corners_N4: np.ndarray, framing: Framing) -> np.ndarray:
    """Corners in parts of the source as pixels of the view, (N, 4); they may lie outside of it."""
    scale = np.array([framing.x_scale, framing.y_scale] * 2)
    moved_N4 = corners_N4 * scale + np.array([framing.x_offset, framing.y_offset] * 2)
    if framing.x_scale < 0:  # mirrored: what was left is right
        moved_N4 = moved_N4[:, [2, 1, 0, 3]]
    return moved_N4


def clipped(corners_N4: np.ndarray, framing: Framing) -> np.ndarray:
    """What of the boxes lies in the picture; of one outside of it a line or a point at the edge."""
    return np.clip(corners_N4, 0, [framing.width, framing.height] * 2)


def grown(corners_N4: np.ndarray, growth: tuple[float, float]) -> np.ndarray:
    """Wider and higher by these parts of width and height, half of it on each side."""
    half_N2 = (corners_N4[:, 2:] - corners_N4[:, :2]) * np.array(growth) / 2
    return np.concatenate([corners_N4[:, :2] - half_N2, corners_N4[:, 2:] + half_N2], axis=1)


def jittered(
    corners_N4: np.ndarray, amounts: tuple[float, float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Every side moved by a draw of its own: outwards and inwards by parts of width, then of height."""
    x_out, x_in, y_out, y_in = amounts
    size_N4 = np.tile(corners_N4[:, 2:] - corners_N4[:, :2], 2)
    lowest, highest = [-x_out, -y_out, -x_in, -y_in], [x_in, y_in, x_out, y_out]
    return corners_N4 + size_N4 * rng.uniform(lowest, highest, corners_N4.shape)
