"""AVA: keyframes with the boxes and actions of their people, from the official lists."""

from __future__ import annotations

import numpy as np
import pytest

from mae_dist.data.catalog import Catalog, Origin
from mae_dist.data.readers import Request, SourceError, build_catalog

ACTIONS = """\
label {
  name: "bend/bow (at the waist)"
  label_id: 1
  label_type: PERSON_MOVEMENT
}
label {
  name: "talk to (e.g., self, a person, a group)"
  label_id: 2
  label_type: PERSON_INTERACTION
}
"""
LIST = """\
_abc,0902,0.077,0.151,0.283,0.811,2,1
_abc,0902,0.077,0.151,0.283,0.811,1,1
_abc,0902,0.500,0.100,0.900,0.950,2,7
_abc,0903,0.080,0.150,0.290,0.810,1,1
_abc,0904,0.080,0.150,0.290,0.810,1,1
-xyz,1798,0.000,0.000,1.000,1.000,1,2
gone,0902,0.000,0.000,1.000,1.000,1,3
"""
FILES = {
    "lists/ava_train_v2.2.csv": LIST,
    "lists/ava_train_excluded_timestamps_v2.2.csv": "_abc,0903\n",
    "lists/ava_action_list_v2.2.pbtxt": ACTIONS,
    "movies/_abc.mkv": "a movie",
    "movies/-xyz.mp4": "another",
}


def built(folder, kind: str = "ava", **changes: str) -> Catalog:
    for path, text in (FILES | changes).items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    request = Request(split="train", annotations=f"{folder}/lists")
    return build_catalog(f"{folder}/movies", kind=kind, request=request)


def test_a_sample_is_a_keyframe_with_the_boxes_and_actions_of_its_people(tmp_path):
    catalog = built(tmp_path)
    assert catalog.table["key"].to_pylist() == ["_abc/0902", "_abc/0904", "-xyz/1798"]
    assert catalog.table["boxes"][0].as_py() == [
        {
            **{corner: float(np.float32(value)) for corner, value in corners.items()},
            "person": person,
            "labels": labels,
        }
        for corners, person, labels in [
            ({"x1": 0.077, "y1": 0.151, "x2": 0.283, "y2": 0.811}, 1, [1, 0]),
            ({"x1": 0.5, "y1": 0.1, "x2": 0.9, "y2": 0.95}, 7, [1]),
        ]
    ]
    assert catalog.classes == ("bend/bow (at the waist)", "talk to (e.g., self, a person, a group)")
    assert catalog.table["label"].to_pylist() == [-1, -1, -1]
    rows = catalog.rows(np.arange(3))
    assert [row.time for row in rows] == [902, 904, 1798]
    assert [row.length for row in rows] == [7, 7, 7]


def test_missing_movies_are_named_and_counted(tmp_path):
    assert built(tmp_path).origin == Origin("ava", "train", 3, ("gone",))


def test_seconds_count_from_the_beginning_of_a_cut_movie(tmp_path):
    catalog = built(tmp_path, "ava_cut")
    assert catalog.table["key"].to_pylist()[0] == "_abc/0902"
    assert catalog.table["time"].to_pylist() == [2, 4, 898]


MISTAKES = {
    "a list of detections": (
        {"lists/ava_train_v2.2.csv": "_abc,0902,0.1,0.1,0.2,0.2,,0.99\n"},
        "line 1: '_abc,0902,0.1,0.1,0.2,0.2,,0.99'; a line is a video, a second, four corners, an action and",
    ),
    "no box": (
        {"lists/ava_train_v2.2.csv": LIST + "_abc,0905\n"},
        "line 8: '_abc,0905'; a line is a video, a second, four corners, an action and a person",
    ),
    "an unknown action": (
        {"lists/ava_train_v2.2.csv": "_abc,0902,0,0,1,1,3,1\n"},
        "_abc,0902: action 3, but there are only actions 1 to 2",
    ),
    "a timestamp that is none": (
        {"lists/ava_train_excluded_timestamps_v2.2.csv": "_abc,soon\n"},
        "line 1: '_abc,soon'; a line is a video, a second$",
    ),
    "the list of the evaluated actions": (
        {"lists/ava_action_list_v2.2.pbtxt": 'item {\n  name: "sit"\n  id: 3\n}\n'},
        "must name actions 1, 2, 3, ... without a gap, .*; found 1, numbered up to 3",
    ),
    "other movies": (
        {"lists/ava_train_v2.2.csv": "gone,0902,0,0,1,1,1,1\n"},
        r"none of the 1 videos that .*ava_train_v2.2.csv names is there \(such as gone\); it holds 2 videos",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_list_with_a_mistake_is_refused_with_what_would_be_right(tmp_path, name):
    changes, message = MISTAKES[name]
    with pytest.raises(SourceError, match=message):
        built(tmp_path, **changes)


def test_a_keyframe_before_the_beginning_of_a_cut_movie_is_refused(tmp_path):
    text = "_abc,0899,0,0,1,1,1,1\n"
    with pytest.raises(SourceError, match="at second 899, but the videos of this kind begin at second 900"):
        built(tmp_path, "ava_cut", **{"lists/ava_train_v2.2.csv": text})


@pytest.mark.parametrize("path", [path for path in FILES if path.startswith("lists/")])
def test_a_list_that_is_not_there_is_asked_for(tmp_path, path):
    built(tmp_path)
    (tmp_path / path).unlink()
    request = Request(split="train", annotations=f"{tmp_path}/lists")
    with pytest.raises(SourceError, match=r"the list of .* is not there \(looked for ava_.*--annotations"):
        build_catalog(f"{tmp_path}/movies", kind="ava", request=request)
