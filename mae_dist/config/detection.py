"""Action detection: which boxes are looked at, and what counts; the section `detection` of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from mae_dist.config.quantities import Positive, Share

AVA_ACTIONS = (
    *(1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 20, 22, 24, 26, 27, 28, 29, 30, 34, 36, 37, 38, 41),
    *(43, 45, 46, 47, 48, 49, 51, 52, 54, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 72, 73),
    *(74, 76, 77, 78, 79, 80),
)
"""The 60 that results are published on: at least 25 examples each in AVA's validation and test data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionConfig:
    """Boxes of people and what they do; the defaults are those of VideoMAE on AVA 2.2."""

    boxes: str | None = None
    """Boxes to judge in the test, found by a detector of people: a CSV of video, second, x1, y1, x2, y2 in
    parts of the frame, score (before which an action may stand, unused). Null means the true boxes of the
    test catalog, which published results do not use."""
    min_score: Share = 0.8
    """Boxes of a lower score are left out."""
    excluded: str | None = None
    """Keyframes whose boxes count for nothing: a CSV of video, second, as AVA's
    ava_val_excluded_timestamps_v2.2.csv."""
    jitter: tuple[Share, Share, Share, Share] = (0.2, 0.1, 0.1, 0.05)
    """How far the sides of a training box move at most: left and right ones outwards and inwards, in parts of
    its width, then upper and lower ones, of its height."""
    growth: tuple[Share, Share] = (0.1, 0.05)
    """What is added to the width and height of a box in the test, in parts of them. Only what the model looks
    at grows, not the box that is scored."""
    test_height: Positive = 256
    """Of the whole frame as it is looked at in the test ..."""
    test_width: Positive = 640
    """... which is scaled down further where it would be wider than this."""
    actions: tuple[Positive, ...] | None = AVA_ACTIONS
    """Numbers, from 1, of the actions in the mean; null means all of the catalog."""
    per_keyframe: Positive | None = 50
    """The best-scored detections of a keyframe that count, as in the official evaluation; null means all."""
