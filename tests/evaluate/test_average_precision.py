"""Frame mAP: by hand, against a slow evaluation of another make, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mae_dist.evaluate.average_precision import (
    ActionBoxes,
    area_under_precision,
    average_precisions,
    overlaps,
)

SIT, TALK, DANCE = 0, 1, 2
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
NOT_QUITE_LEFT = (0.0, 0.0, 0.5, 0.4)
"""Covers two fifths of LEFT: too little."""
HALF_LEFT = (0.0, 0.0, 0.5, 0.5)
"""Covers half of LEFT: just enough."""


def boxes(*rows) -> ActionBoxes:
    """(keyframe, corners, action) or, of detections, (keyframe, corners, action, score)."""
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return ActionBoxes(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.float64).reshape(-1, 4),
        np.array(columns[2], np.int64),
        np.array(columns[3] if len(columns) > 3 else [1] * len(rows), np.float64),
    )


def evaluate(truth, detections, **options) -> list[float]:
    return average_precisions(boxes(*truth), boxes(*detections), num_actions=3, **options).tolist()


TRUTH = [
    (1, LEFT, SIT),
    (1, LEFT, TALK),  # one person does two things
    (1, RIGHT, SIT),
    (2, LEFT, SIT),
    (3, RIGHT, TALK),
]
DETECTIONS = [
    (1, LEFT, SIT, 0.9),
    (1, HALF_LEFT, SIT, 0.8),
    (1, RIGHT, SIT, 0.6),
    (2, NOT_QUITE_LEFT, SIT, 0.7),
    (4, LEFT, SIT, 0.5),
    (1, HALF_LEFT, TALK, 0.3),
    (3, LEFT, TALK, 0.4),
    (3, (0.5, 0.0, 0.5, 1.0), TALK, 0.95),
    (1, LEFT, DANCE, 0.99),
]


def test_the_official_rules_worked_out_by_hand():
    # Sit, three in the truth. By falling score:
    #   .9 on LEFT of keyframe 1        right: it is the first there        precision 1/1   recall 1/3
    #   .8 on half of the same person   wrong: she is taken                 precision 1/2
    #   .7 on 2/5 of a person           wrong: overlap .4                   precision 1/3
    #   .6 on RIGHT of keyframe 1       right                               precision 2/4   recall 2/3
    #   .5 on a keyframe without truth  wrong                               precision 2/5
    # Envelope: 1 up to recall 1/3, 1/2 up to 2/3, then 0. Area: (1 + 1/2) / 3 = 1/2.
    #
    # Talk, two in the truth. The one at .95 has no area and does not count.
    #   .4 on the empty half of keyframe 3   wrong                          precision 0
    #   .3 on half of LEFT of keyframe 1     right: overlap exactly .5      precision 1/2   recall 1/2
    # Envelope: 1/2 up to recall 1/2. Area: 1/4.
    #
    # Nobody dances: that is no number, and no part of the mean, 3/8.
    found = evaluate(TRUTH, DETECTIONS)
    assert found == pytest.approx([1 / 2, 1 / 4, np.nan], nan_ok=True)
    assert np.nanmean(found) == pytest.approx(3 / 8)


def test_a_detection_whose_nearest_person_is_taken_may_not_have_another_one():
    near_left = (0.0, 0.0, 0.5, 0.875)
    # Both overlap LEFT and HALF_LEFT by half at least, and LEFT more.
    truth = [(1, LEFT, SIT), (1, HALF_LEFT, SIT)]
    detections = [(1, LEFT, SIT, 0.9), (1, near_left, SIT, 0.8)]
    assert evaluate(truth, detections)[SIT] == 0.5


def test_an_action_that_is_never_detected_has_no_precision_at_all():
    assert evaluate(TRUTH, [(1, LEFT, SIT, 0.9)])[TALK] == 0.0


def test_only_counted_actions_have_a_precision_and_take_a_place():
    found = evaluate(TRUTH, [(1, LEFT, DANCE, 0.9), (1, LEFT, TALK, 0.8)], counted=[TALK], per_keyframe=1)
    assert found == pytest.approx([np.nan, 0.5, np.nan], nan_ok=True)


def test_of_each_keyframe_the_best_detections_of_all_actions_together_are_kept():
    truth = [(1, LEFT, SIT), (1, LEFT, TALK), (2, LEFT, SIT)]
    detections = [(1, LEFT, SIT, 0.9), (1, LEFT, TALK, 0.8), (2, LEFT, SIT, 0.1)]
    assert evaluate(truth, detections, per_keyframe=2)[:2] == [1.0, 1.0]
    assert evaluate(truth, detections, per_keyframe=1)[:2] == [1.0, 0.0]
    many = [(1, LEFT, SIT, 0.9)] * 50 + [(1, LEFT, TALK, 0.8)]
    assert evaluate(truth, many)[TALK] == 0.0
    assert evaluate(truth, many, per_keyframe=None)[TALK] == 1.0


def test_a_box_that_is_twice_in_the_truth_can_be_found_once():
    truth = [(1, LEFT, SIT), (1, LEFT, SIT)]
    assert evaluate(truth, [(1, LEFT, SIT, 0.9), (1, LEFT, SIT, 0.8)])[SIT] == 0.5


def test_nothing_is_gained_by_the_order_of_equal_scores():
    # Right and wrong at the same threshold: precision 1/2 at recall 1.
    truth = [(1, LEFT, SIT)]
    assert evaluate(truth, [(1, LEFT, SIT, 0.5), (2, LEFT, SIT, 0.5)])[SIT] == 0.5


def test_overlap_is_the_same_in_pixels_and_in_parts_of_the_frame():
    rng = np.random.default_rng(0)
    corners = rng.random((2, 50, 4))
    corners[..., 2:] += corners[..., :2]
    pixels = corners * [1920, 800, 1920, 800]
    assert overlaps(*corners) == pytest.approx(overlaps(*pixels))
    assert overlaps(np.zeros((1, 4)), np.zeros((1, 4))) == 0


def slow_average_precisions(truth, detections, per_keyframe, iou) -> list[float]:
    """The same rules without a thought for speed: lists, loops, a recall-by-recall integral."""
    kept = []
    for keyframe in {row[0] for row in detections}:
        here = sorted((row for row in detections if row[0] == keyframe), key=lambda row: -row[3])
        kept += here[:per_keyframe]
    kept = [row for row in kept if row[1][0] < row[1][2] and row[1][1] < row[1][3]]

    def overlap(a, b) -> float:
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        if width <= 0 or height <= 0:
            return 0.0
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        return width * height / (sum(areas) - width * height)

    found = []
    for action in range(3):
        people = [row[:2] for row in truth if row[2] == action]
        if not people:
            found.append(float("nan"))
            continue
        taken, curve = set(), []
        claims = sorted((row for row in kept if row[2] == action), key=lambda row: -row[3])
        for rank, (keyframe, corners, _, _) in enumerate(claims, start=1):
            here = [n for n, person in enumerate(people) if person[0] == keyframe]
            nearest = max(here, key=lambda n: overlap(corners, people[n][1]), default=None)
            if nearest is not None and overlap(corners, people[nearest][1]) >= iou:
                taken.add(nearest)
            curve.append((len(taken) / len(people), len(taken) / rank))
        area, last = 0.0, 0.0
        for recall, _ in curve:
            if recall > last:
                area += (recall - last) * max(p for r, p in curve if r >= recall)
                last = recall
        found.append(area)
    return found


@pytest.mark.parametrize("seed", range(40))
def test_random_cases_come_out_as_in_an_evaluation_of_another_make(seed):
    rng = np.random.default_rng(seed)

    def corners() -> tuple[float, ...]:
        x, y = rng.choice([0.0, 0.3, 0.5], 2) + rng.normal(0, 0.03, 2)
        width, height = 0.4 + rng.normal(0, 0.08, 2)
        return x, y, x + width, y + max(height, rng.choice([-0.1, 0.3]))

    truth = [(int(rng.integers(5)), corners(), int(rng.integers(3))) for _ in range(rng.integers(1, 25))]
    detections = [
        (int(rng.integers(6)), corners(), int(rng.integers(3)), float(rng.random()))
        for _ in range(rng.integers(0, 80))
    ]
    for per_keyframe, iou in [(50, 0.5), (4, 0.5), (9, 0.75)]:
        found = evaluate(truth, detections, per_keyframe=per_keyframe, iou=iou)
        expected = slow_average_precisions(truth, detections, per_keyframe, iou)
        assert found == pytest.approx(expected, nan_ok=True)


CORNERS = st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(1, 8)] * 2).map(
    lambda place: (place[0], place[1], place[0] + place[2], place[1] + place[3])
)
SHOWN = st.tuples(st.integers(0, 3), CORNERS, st.integers(0, 2))
CLAIMED = st.tuples(st.integers(0, 3), CORNERS, st.integers(0, 2), st.integers(0, 9))


@settings(max_examples=60, deadline=None)
@given(st.lists(SHOWN, min_size=1, max_size=12), st.lists(CLAIMED, max_size=20), st.randoms())
def test_the_order_of_detections_does_not_matter(truth, detections, random):
    shuffled = list(detections)
    random.shuffle(shuffled)
    for per_keyframe in (3, None):
        found = evaluate(truth, detections, per_keyframe=per_keyframe)
        assert np.array_equal(found, evaluate(truth, shuffled, per_keyframe=per_keyframe), equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(SHOWN, min_size=1, max_size=12, unique=True))
def test_to_detect_exactly_the_truth_is_a_precision_of_one(truth):
    found = evaluate(truth, [(*row, 0.5) for row in truth])
    assert {value for value in found if not np.isnan(value)} == {1.0}


CLAIMS = st.lists(
    st.tuples(st.integers(0, 99), st.booleans()), min_size=1, max_size=30, unique_by=lambda claim: claim[0]
)


@settings(max_examples=60, deadline=None)
@given(CLAIMS, st.integers(1, 99))
def test_a_better_score_for_what_is_right_never_costs_precision(claims, more):
    scores, is_right = (np.array(column) for column in zip(*claims, strict=True))
    total = max(1, int(is_right.sum()))
    before = area_under_precision(scores, is_right, total)
    for index in np.flatnonzero(is_right):
        raised = scores.copy()
        raised[index] += more
        assert area_under_precision(raised, is_right, total) >= before - 1e-12


@settings(max_examples=60, deadline=None)
@given(CLAIMS)
def test_a_wrong_detection_below_all_others_costs_nothing(claims):
    scores, is_right = (np.array(column) for column in zip(*claims, strict=True))
    total = max(1, int(is_right.sum()))
    longer = np.append(scores, -1), np.append(is_right, False)
    assert area_under_precision(*longer, total) == area_under_precision(scores, is_right, total)
