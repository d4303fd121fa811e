"""From judged people to the frame mAP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mae_dist.config.detection import DetectionConfig
from mae_dist.data.catalog import Catalog
from mae_dist.data.people import judged_keyframes
from mae_dist.evaluate.detection import frame_map

LEFT, RIGHT = (0.123, 0.0, 0.456, 1.0), (0.5, 0.0, 0.987, 1.0)


def box(corners: tuple[float, ...], *labels: int) -> dict[str, Any]:
    return dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True)) | {"person": 1, "labels": list(labels)}


TRUTH = Catalog.of(
    keys=["a/0902", "a/0903", "b/0902"],
    uris=["a.mp4", "a.mp4", "b.mp4"],
    media="video",
    labels=[-1] * 3,
    classes=["sit", "talk", "dance"],
    times=[902.0, 903.0, 902.0],
    boxes=[[box(LEFT, 0, 1), box(RIGHT, 0)], [box(LEFT, 0)], [box(RIGHT, 1)]],
)
PEOPLE = {
    "a/0902": [(*RIGHT, 0.9), (*LEFT, 1.0)],
    "a/0904": [(*LEFT, 0.5)],  # nobody does anything there
    "b/0902": [(*RIGHT, 1.0)],
}
SIT, TALK, DANCE = np.eye(3, dtype=np.float32)


def result(*judged: tuple[str, int, Any], people=PEOPLE, **changes: Any) -> dict[str, Any]:
    """Of judgements (keyframe, place, probabilities); all other people of the file are not judged."""
    keyframes = judged_keyframes(TRUTH, people)
    keys = keyframes.table["key"].to_pylist()
    judgements = {
        "sample": np.array([keys.index(key) for key, _, _ in judged], np.int64),
        "place": np.array([place for _, place, _ in judged], np.int64),
        "probability": np.array([chance for _, _, chance in judged], np.float32).reshape(-1, 3),
    }
    detection = DetectionConfig(**{"actions": None, **changes})
    return frame_map(TRUTH, keyframes, people, judgements, detection, num_actions=3)


def by_class(found: dict[str, Any]) -> dict[str, float]:
    return {row["class"]: row["value"] for row in found["per_class"]}


def test_people_who_are_judged_rightly_count_for_each_of_their_actions():
    found = result(("a/0902", 0, SIT), ("a/0902", 1, SIT + TALK), ("b/0902", 0, TALK))
    # Of three who sit two are found, and a/0903 has nobody in the file. All who talk are.
    assert by_class(found) == pytest.approx({"sit": 200 / 3, "talk": 100})
    assert found["value"] == pytest.approx((200 / 3 + 100) / 2)
    assert [row["total"] for row in found["per_class"]] == [3, 2]
    assert (found["metric"], found["num_samples"], found["num_classes"]) == ("frame_map", 3, 2)


def test_what_is_detected_where_nobody_does_anything_is_wrong():
    fine = [("a/0902", 0, 0.5 * SIT), ("a/0902", 1, 0.5 * SIT)]
    assert by_class(result(*fine))["sit"] == pytest.approx(200 / 3)
    # At .5 * 1.0 of the person it comes before .45 and beside .5: precision 1/2 and 2/3.
    assert by_class(result(*fine, ("a/0904", 0, SIT)))["sit"] == pytest.approx(100 * 2 / 3 * 2 / 3)


def test_the_score_of_the_person_is_a_factor():
    # The person at .9 is surer of what is wrong, and the product is not.
    people = PEOPLE | {"a/0904": [(*LEFT, 0.8)]}
    judged = [("b/0902", 0, 0.9 * TALK), ("a/0904", 0, TALK), ("a/0902", 1, 0.85 * TALK)]
    assert by_class(result(*judged, people=people))["talk"] == pytest.approx(100)


def test_excluded_keyframes_and_actions_count_for_nothing(tmp_path):
    (tmp_path / "excluded.csv").write_text("a,0902\n")
    found = result(("b/0902", 0, TALK), excluded=f"{tmp_path}/excluded.csv")
    assert by_class(found) == {"sit": 0, "talk": 100}
    assert [row["total"] for row in found["per_class"]] == [1, 1]
    assert by_class(result(("b/0902", 0, TALK), actions=(2, 3))) == {"talk": 50}


def test_a_test_without_any_of_the_actions_is_refused():
    with pytest.raises(ValueError, match=r"none of the actions in detection\.actions occurs in the test"):
        result(("b/0902", 0, DANCE), actions=(3,))
