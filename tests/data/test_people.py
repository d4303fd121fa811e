"""Boxes that a detector of people found: read, and put in place of the true ones."""

from __future__ import annotations

import numpy as np
import pytest

from mae_dist.data.catalog import Catalog
from mae_dist.data.people import judged_keyframes, read_excluded, read_people, true_people
from mae_dist.data.readers import SourceError

FOUND = """\
a,0902,0.1,0.2,0.5,0.9,,0.99
a,0902,0.6,0.2,0.9,0.9,12,0.80
a,0902,0.0,0.0,0.1,0.1,,0.79
a,0904,0.1,0.2,0.5,0.9,0.95
b,0902,0.3,0.3,0.6,0.6,,0.9
elsewhere,0902,0.3,0.3,0.6,0.6,,0.9
"""
BOX = {"x1": 0.25, "y1": 0.25, "x2": 0.75, "y2": 1.0, "person": 1, "labels": [0]}


def keyframes() -> Catalog:
    """Keyframes 902 and 903 of a, and 902 of b, whose file begins at second 900."""
    return Catalog.of(
        keys=["a/0902", "a/0903", "b/0902"],
        uris=["a.mp4", "a.mp4", "b.mp4"],
        media="video",
        labels=[-1] * 3,
        classes=["sit", "talk"],
        lengths=[7, 7, 9],
        times=[902.0, 903.0, 2.0],
        boxes=[[BOX], [BOX, BOX], [BOX]],
    )


@pytest.fixture
def found(tmp_path) -> str:
    (tmp_path / "people.csv").write_text(FOUND)
    return f"{tmp_path}/people.csv"


def test_boxes_of_a_sufficient_score_are_read_with_an_action_before_it_or_without(found):
    people = read_people(found, min_score=0.8)
    assert people["a/0902"] == [(0.1, 0.2, 0.5, 0.9, 0.99), (0.6, 0.2, 0.9, 0.9, 0.8)]
    assert people["a/0904"] == [(0.1, 0.2, 0.5, 0.9, 0.95)]
    assert len(read_people(found, min_score=0.0)["a/0902"]) == 3


def test_every_keyframe_of_the_videos_in_which_people_were_found_is_judged(found):
    judged = judged_keyframes(keyframes(), read_people(found, min_score=0.8))
    assert judged.table["key"].to_pylist() == ["a/0902", "a/0904", "b/0902"]
    rows = judged.rows(np.arange(3))
    assert [(row.uri, row.length, row.time) for row in rows] == [
        ("a.mp4", 7, 902.0),
        ("a.mp4", 7, 904.0),
        ("b.mp4", 9, 2.0),
    ]
    assert [len(row.boxes or []) for row in rows] == [2, 1, 1]
    first = (rows[0].boxes or [])[0]
    assert [first[name] for name in ("x1", "y1", "x2", "y2")] == pytest.approx([0.1, 0.2, 0.5, 0.9])
    assert (first["person"], first["labels"]) == (-1, [])


def test_excluded_keyframes_are_not_judged(found, tmp_path):
    (tmp_path / "excluded.csv").write_text("a,0904\nb,902\n")
    excluded = read_excluded(f"{tmp_path}/excluded.csv")
    judged = judged_keyframes(keyframes(), read_people(found, min_score=0.8), excluded)
    assert judged.table["key"].to_pylist() == ["a/0902"]


def test_the_true_boxes_are_certain():
    people = true_people(keyframes())
    assert people["a/0903"] == [(0.25, 0.25, 0.75, 1.0, 1.0)] * 2
    assert judged_keyframes(keyframes(), people).table["key"].to_pylist() == ["a/0902", "a/0903", "b/0902"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "a,0902,0.1,0.2,0.5\n",
            r"line 1: 'a,0902,0.1,0.2,0.5'; a line is a video, a second, four corners",
        ),
        ("a,soon,0.1,0.2,0.5,0.9,,1\n", r"line 1: 'a,soon,.*'; a line is a video, a second"),
        ("a,0902,0.1,0.2,0.5,0.9,,high\n", r"line 1: .*and a score"),
        ("a,0902,10,20,320,240,,1\n", r"a/0902: a corner at 320; corners are in parts of the frame's width"),
        ("a,0902,.1,.2,.5,.9,,.5\n", r"none of its 1 boxes has a score of 0.8 or more"),
    ],
)
def test_a_file_without_usable_boxes_is_refused_with_its_line(tmp_path, text, complaint):
    (tmp_path / "people.csv").write_text(text)
    with pytest.raises(SourceError, match=complaint):
        read_people(f"{tmp_path}/people.csv", min_score=0.8)


def test_a_list_of_excluded_keyframes_is_video_and_second(tmp_path):
    (tmp_path / "excluded.csv").write_text("a,0902,0.1\n")
    with pytest.raises(SourceError, match=r"line 1: 'a,0902,0.1'; a line is a video, a second, nothing else"):
        read_excluded(f"{tmp_path}/excluded.csv")


def test_boxes_of_other_videos_are_refused():
    with pytest.raises(SourceError, match=r"in 1 keyframes \(as c/0902\), but in none of .* \(as a\)"):
        judged_keyframes(keyframes(), {"c/0902": [(0.0, 0.0, 1.0, 1.0, 1.0)]})
