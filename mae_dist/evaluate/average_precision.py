"""Average precision of boxes with actions, as AVA's official evaluation counts it (PASCAL VOC, by frame).

    keyframe   the best-scored detections are kept, 50 of all actions together
    action     a detection points at the box of the truth that it overlaps most; it is right if the overlap is
               large enough and no better-scored one points there
    all        detections by falling score give precision over recall; precision is made non-increasing, and
               the area below it is the average precision

Overlap is intersection over union, the same in pixels and in parts of the frame. Letters: N boxes, D
detections of one action, P pairs of a detection and a box of the truth.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

OFFICIAL_IOU = 0.5
OFFICIAL_PER_KEYFRAME = 50


class ActionBoxes(NamedTuple):
    """Boxes with one action each, row by row; a person who does two things is two rows."""

    keyframe: np.ndarray
    """(N,) int64, any number of the keyframe."""
    corners: np.ndarray
    """(N, 4) float64: x1, y1, x2, y2."""
    action: np.ndarray
    """(N,) int64, from 0."""
    score: np.ndarray
    """(N,) float64; of the truth, anything."""

    def take(self, rows: np.ndarray) -> ActionBoxes:
        """These rows, by number or by a mask."""
        return ActionBoxes(*(column[rows] for column in self))


def average_precisions(
    truth: ActionBoxes,
    detections: ActionBoxes,
    *,
    num_actions: int,
    counted: Collection[int] | None = None,
    iou: float = OFFICIAL_IOU,
    per_keyframe: int | None = OFFICIAL_PER_KEYFRAME,
) -> np.ndarray:
    """The average precision of every action, (num_actions,) float64 in 0..1; their mean is the frame mAP.

    nan for an action that is not in `counted` (None: all are) or that the truth never shows; 0 for one that
    is never detected. Boxes of other actions than the counted ones take no place among the `per_keyframe`
    best (None: all are kept). A detection on a keyframe without truth is a wrong one, a detection without
    area is none. The order of rows does not matter: of equal scores the wrong ones are taken first, so
    precision is that at the end of a tie (the official code leaves it to an unstable sort).
    """
    is_counted = np.zeros(num_actions, dtype=bool)
    is_counted[list(range(num_actions) if counted is None else counted)] = True
    truth = truth.take(is_counted[truth.action])
    detections = detections.take(is_counted[detections.action])
    if per_keyframe is not None:
        detections = detections.take(_best(detections, per_keyframe))
    x1, y1, x2, y2 = detections.corners.T
    detections = detections.take((x1 < x2) & (y1 < y2))
    found = np.full(num_actions, np.nan)
    for action in np.unique(truth.action).tolist():
        shown = truth.take(truth.action == action)
        claimed = detections.take(detections.action == action)
        is_right = hits(shown, claimed, iou=iou)
        found[action] = area_under_precision(claimed.score, is_right, len(shown.action))
    return found


def hits(truth: ActionBoxes, detections: ActionBoxes, *, iou: float) -> np.ndarray:
    """Which detections are right, (D,) bool; truth and detections of one action."""
    detected_P, shown_P = _pairs(detections.keyframe, truth.keyframe)
    overlap_P = overlaps(detections.corners[detected_P], truth.corners[shown_P])
    # A detection points at one box, the one it overlaps most; where that is taken, no other one will do.
    order = np.lexsort((shown_P, -overlap_P, detected_P))
    detected, first = np.unique(detected_P[order], return_index=True)
    best = order[first]
    near = overlap_P[best] >= iou
    detected, pointed_at = detected[near], shown_P[best][near]
    by_score = np.argsort(-detections.score[detected], kind="stable")
    _, winners = np.unique(pointed_at[by_score], return_index=True)
    is_right = np.zeros(len(detections.action), dtype=bool)
    is_right[detected[by_score][winners]] = True
    return is_right


def overlaps(first_N4: np.ndarray, second_N4: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes, row by row, (N,); 0 for two without area."""
    corner = np.maximum(first_N4[:, :2], second_N4[:, :2])
    opposite = np.minimum(first_N4[:, 2:], second_N4[:, 2:])
    common = np.clip(opposite - corner, 0, None).prod(axis=1)
    union = sum((box[:, 2:] - box[:, :2]).prod(axis=1) for box in (first_N4, second_N4)) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def area_under_precision(score_D: np.ndarray, is_right_D: np.ndarray, num_shown: int) -> float:
    """Average precision of one action that is shown `num_shown` > 0 times; 0 without detections."""
    order = np.lexsort((is_right_D, -score_D))
    num_right = np.cumsum(is_right_D[order])
    precision = num_right / np.arange(1, len(order) + 1)
    # At each recall the best precision that a lower threshold could still reach.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[is_right_D[order]].sum() / num_shown)


def _best(detections: ActionBoxes, per_keyframe: int) -> np.ndarray:
    """Rows of the best-scored detections of each keyframe; of equal scores those of the higher action."""
    ties = (*detections.corners.T, detections.action)
    order = np.lexsort((*(-tie for tie in ties), -detections.score, detections.keyframe))
    _, first, counts = np.unique(detections.keyframe[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, counts)
    return order[rank < per_keyframe]


def _pairs(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (i, j) of all rows with left[i] == right[j], i ascending."""
    order = np.argsort(right, kind="stable")
    starts, ends = (np.searchsorted(right[order], left, side=side) for side in ("left", "right"))
    counts = ends - starts
    first_of_row = np.repeat(np.cumsum(counts) - counts, counts)
    places = np.arange(counts.sum()) - first_of_row + np.repeat(starts, counts)
    return np.repeat(np.arange(len(left)), counts), order[places]
