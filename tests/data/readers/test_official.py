"""Official lists of public data sets, and the videos of them that are there."""

from __future__ import annotations

import json

import pytest

from mae_dist import storage
from mae_dist.data.catalog import Catalog, Origin
from mae_dist.data.readers import KINDS, Request, SourceError, build_catalog
from mae_dist.data.readers.official import SPLIT_SIZES, VIDEO_COUNTS, difference

CLASSES = [f"class {number:03d}" for number in range(400)]
HEADING = "label,youtube_id,time_start,time_end,split\n"


def put(place: str, files: dict[str, str]) -> str:
    for name, text in files.items():
        storage.write_bytes(storage.join(place, name), text.encode())
    return place


def kinetics(split: str = "train") -> str:
    """A list of one video of each class: <number>-id from second <number> on."""
    return HEADING + "".join(
        f'"{name}",{number:03d}-id,{number},{number + 10},{split}\n' for number, name in enumerate(CLASSES)
    )


def built(place: str, kind: str, split: str, annotations: str | None = None) -> Catalog:
    return build_catalog(place, kind=kind, request=Request(split=split, annotations=annotations))


def content(catalog: Catalog) -> list[tuple[str, int]]:
    return list(zip(catalog.table["key"].to_pylist(), catalog.table["label"].to_pylist(), strict=True))


def test_kinetics_finds_clips_by_id_and_seconds_and_keeps_the_missing_ones_out(place):
    videos = {
        "train/007-id_000007_000017.mp4": "a clip",
        "class 003/003-id_000003_000013.mkv": "in a class folder",
        "val/007-id_000007_000017.mp4": "in another split",
        "399-id.mp4": "named by its id alone",
        "008-id_000000_000010.mp4": "of another second",
    }
    put(place, {**videos, "annotations/train.csv": kinetics(), "annotations/val.csv": kinetics("val")})
    catalog = built(place, "kinetics400", "train")
    assert content(catalog) == [
        ("class 003/003-id_000003_000013.mkv", 3),
        ("train/007-id_000007_000017.mp4", 7),
        ("399-id.mp4", 399),
    ]
    assert catalog.table["length"].to_pylist() == [17, 6, 21]
    assert catalog.classes == tuple(CLASSES)
    assert catalog.origin is not None
    assert (catalog.origin.dataset, catalog.origin.split, catalog.origin.listed) == (
        "kinetics400",
        "train",
        400,
    )
    assert len(catalog.origin.missing) == 397
    assert catalog.origin.missing[0] == "000-id_000000_000010"

    saved = storage.join(place, "catalog.parquet")
    catalog.save(saved)
    assert Catalog.load(saved).origin == catalog.origin


def test_a_video_may_begin_with_an_underscore(tmp_path):
    """As identifiers of YouTube do; a writer's _SUCCESS and the like stay hidden."""
    videos = {"_03-id_000003_000013.mp4": "x", "_SUCCESS": ""}
    put(str(tmp_path), {**videos, "train.csv": kinetics().replace("003-id", "_03-id")})
    assert content(built(str(tmp_path), "kinetics400", "train")) == [("_03-id_000003_000013.mp4", 3)]


def test_the_list_of_a_test_split_has_no_labels(tmp_path):
    text = "youtube_id,time_start,time_end,split\nabc,1,11,test\n"
    put(str(tmp_path), {"clips/abc_000001_000011.mp4": "x", "lists/kinetics700_test.csv": text})
    catalog = built(f"{tmp_path}/clips", "kinetics700", "test", f"{tmp_path}/lists")
    assert (content(catalog), catalog.classes) == ([("abc_000001_000011.mp4", -1)], ())


SOMETHING = {
    "labels/labels.json": json.dumps({"Holding something": "1", "Dropping something onto something": "0"}),
    "labels/train.json": json.dumps(
        [
            {
                "id": "12",
                "label": "holding a pot",
                "template": "Holding [something]",
                "placeholders": ["a pot"],
            },
            {"id": "3", "label": "", "template": "Dropping [something] onto [something]", "placeholders": []},
            {"id": "4", "label": "", "template": "Holding [something]", "placeholders": []},
        ]
    ),
    "labels/something-something-v2-test.json": json.dumps([{"id": "99"}]),
    "20bn/12.webm": "x",
    "20bn/3.webm": "y",
    "20bn/99.webm": "z",
}


def test_something_v2_takes_the_class_from_the_template(place):
    put(place, SOMETHING)
    catalog = built(place, "something_v2", "train")
    assert content(catalog) == [("20bn/12.webm", 1), ("20bn/3.webm", 0)]
    assert catalog.classes == ("Dropping something onto something", "Holding something")
    assert catalog.origin == Origin("something_v2", "train", 3, ("4",))
    assert content(built(place, "something_v2", "test")) == [("20bn/99.webm", -1)]


UCF = {
    "ucfTrainTestlist/classInd.txt": "1 ApplyEyeMakeup\r\n2 Archery\r\n",
    "ucfTrainTestlist/trainlist02.txt": "ApplyEyeMakeup/v_M_g08_c01.avi 1\nArchery/v_A_g08_c01.avi 2\n",
    "ucfTrainTestlist/testlist02.txt": "Archery/v_A_g01_c01.avi\nArchery/v_A_g01_c02.avi\n",
    "UCF-101/ApplyEyeMakeup/v_M_g08_c01.avi": "x",
    "UCF-101/Archery/v_A_g08_c01.avi": "x",
    "UCF-101/Archery/v_A_g01_c02.avi": "x",
}


def test_ucf101_reads_its_three_divisions(tmp_path):
    put(str(tmp_path), UCF)
    train = built(str(tmp_path), "ucf101", "train2")
    assert content(train) == [
        ("UCF-101/ApplyEyeMakeup/v_M_g08_c01.avi", 0),
        ("UCF-101/Archery/v_A_g08_c01.avi", 1),
    ]
    test = built(f"{tmp_path}/UCF-101", "ucf101", "test2", f"{tmp_path}/ucfTrainTestlist")
    assert content(test) == [("Archery/v_A_g01_c02.avi", 1)]
    assert test.classes == train.classes == ("ApplyEyeMakeup", "Archery")
    assert test.origin == Origin("ucf101", "test2", 2, ("Archery/v_A_g01_c01",))


HMDB = {
    "splits/brush_hair_test_split1.txt": "a.avi 1 \nb.avi 2 \nc.avi 0 \n",
    "splits/brush_hair_test_split2.txt": "a.avi 2 \nb.avi 1 \nc.avi 0 \n",
    "splits/wave_test_split1.txt": "a.avi 2 \nd.avi 1 \n",
    "splits/wave_test_split2.txt": "a.avi 1 \nd.avi 0 \n",
    **{f"brush_hair/{name}.avi": "x" for name in "abc"},
    **{f"wave/{name}.avi": "y" for name in "ad"},
}


def test_hmdb51_tells_videos_of_one_name_apart_by_their_class(tmp_path):
    put(str(tmp_path), HMDB)
    parts = {
        split: content(built(str(tmp_path), "hmdb51", split))
        for split in ("train1", "test1", "train2", "test2")
    }
    assert parts == {
        "train1": [("brush_hair/a.avi", 0), ("wave/d.avi", 1)],
        "test1": [("brush_hair/b.avi", 0), ("wave/a.avi", 1)],
        "train2": [("brush_hair/b.avi", 0), ("wave/a.avi", 1)],
        "test2": [("brush_hair/a.avi", 0)],
    }


def lines(*after_heading: str) -> dict[str, str]:
    return {"train.csv": HEADING + "".join(f"{line}\n" for line in after_heading), "a.mp4": ""}


KINETICS_LIST = {"train.csv": kinetics(), "a.mp4": ""}
MISTAKES = {
    "no list": ("kinetics400", {"a.mp4": ""}, r"the list of train is not there \(looked for train.csv, "),
    "two lists": (
        "kinetics400",
        {**KINETICS_LIST, "old/train.csv": ""},
        "the list of train is there 2 times .* say which with --annotations",
    ),
    "other columns": (
        "kinetics400",
        {"train.csv": "path,class\na.mp4,1\n", "a.mp4": ""},
        "is no list of Kinetics: its columns are path, class; it needs youtube_id, time_start, time_end",
    ),
    "an empty list": ("kinetics400", {"train.csv": "", "a.mp4": ""}, "its columns are none"),
    "no seconds": (
        "kinetics400",
        lines("x,y,soon,later,train"),
        "line 2: time_start and time_end must be seconds",
    ),
    "a short line": (
        "kinetics400",
        lines("x,y"),
        "line 2: time_start and time_end must be seconds, got None",
    ),
    "another split": ("kinetics400", lines("x,y,1,2,val"), "lists nothing of train; found val"),
    "another Kinetics": (
        "kinetics600",
        KINETICS_LIST,
        "names 400 classes in train, kinetics600 has 600; labels are numbered over all of them",
    ),
    "no video": (
        "kinetics400",
        KINETICS_LIST,
        r"none of the 400 videos that .*train.csv names is there \(such as 000-id_000000_000010\); it "
        r"holds 1 videos \(a.mp4\)",
    ),
    "bytes": ("kinetics400", {"train.csv": "\udcff", "a.mp4": ""}, r"is not text in UTF-8 \(byte 0\)"),
    "no JSON": ("something_v2", {**SOMETHING, "labels/train.json": "[{"}, "train.json: is not JSON: "),
    "another JSON": (
        "something_v2",
        {**SOMETHING, "labels/train.json": "{}"},
        "train.json: holds a dict of JSON, and needs a list",
    ),
    "an entry without id": (
        "something_v2",
        {**SOMETHING, "labels/train.json": '[{"video": 1}]'},
        "entry 0 is .*; each needs 'id'",
    ),
    "a foreign template": (
        "something_v2",
        {**SOMETHING, "labels/train.json": '[{"id": 3, "template": "Eating [something]"}]'},
        "video 3 has the template 'Eating something', which .*labels.json does not name",
    ),
    "classes with holes": (
        "something_v2",
        {**SOMETHING, "labels/labels.json": '{"Holding something": 2}'},
        "must map each template to a number from 0 on",
    ),
    "a foreign class": (
        "ucf101",
        {**UCF, "ucfTrainTestlist/trainlist01.txt": "Archery/a.avi 1\n"},
        "line 1: 'Archery/a.avi 1' is of no class of .*classInd.txt",
    ),
    "classes out of order": (
        "ucf101",
        {
            **UCF,
            "ucfTrainTestlist/trainlist01.txt": "Archery/a.avi 1\n",
            "ucfTrainTestlist/classInd.txt": "2 Archery",
        },
        "line 1: class 1 expected, got '2'",
    ),
    "three words": (
        "ucf101",
        {**UCF, "ucfTrainTestlist/trainlist01.txt": "a b c\n"},
        "line 1: 'a b c'; a line is a path and, in training, a number",
    ),
    "no division": ("hmdb51", {"a.avi": ""}, "the lists of division 1 are not there"),
    "a division of four": (
        "hmdb51",
        {**HMDB, "splits/wave_test_split1.txt": "a.avi 4"},
        "line 1: 0, 1 or 2 expected after the name, got '4'",
    ),
    "divisions twice": (
        "hmdb51",
        {**HMDB, "copy/wave_test_split1.txt": "a.avi 1"},
        "the lists of division 1 are there twice",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_list_with_a_mistake_is_refused_with_what_would_be_right(tmp_path, name):
    kind, files, message = MISTAKES[name]
    for path, text in files.items():
        storage.write_bytes(f"{tmp_path}/{path}", text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SourceError, match=message):
        built(str(tmp_path), kind, "train1" if "train1" in KINDS[kind].splits else "train")


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.splits])
def test_a_split_has_to_be_one_of_the_data_set(tmp_path, kind):
    with pytest.raises(SourceError, match=f"the split of {kind} is one of .*; none was given"):
        build_catalog(str(tmp_path), kind=kind)
    with pytest.raises(SourceError, match=f"the split of {kind} is one of train.*; got 'everything'"):
        built(str(tmp_path), kind, "everything")


def test_a_split_of_what_has_none_is_refused(tmp_path):
    with pytest.raises(
        SourceError, match="the kind auto has none; say which data set it is with --kind, one of kin"
    ):
        built(str(tmp_path), "auto", "train")


def test_a_video_named_twice_counts_once(tmp_path, caplog):
    text = kinetics() + '"class 000",000-id,0,10,train\n'
    put(
        str(tmp_path), {"train.csv": text, "a/000-id_000000_000010.mp4": "", "b/000-id_000000_000010.mp4": ""}
    )
    catalog = built(str(tmp_path), "kinetics400", "train")
    assert content(catalog) == [("a/000-id_000000_000010.mp4", 0)]
    assert "names 1 videos twice" in caplog.text
    assert "holds 1 listed videos more than once" in caplog.text


def test_the_known_sizes_are_of_kinds_and_splits_that_exist():
    for dataset, split in {**SPLIT_SIZES, **VIDEO_COUNTS}:
        assert split in KINDS[dataset].splits


def test_a_catalog_says_by_how_much_it_differs_from_the_published_split():
    origin = Origin("kinetics400", "val", 19_800, ())
    assert difference(origin, 19_796) is None
    assert difference(origin, 19_404) == (
        "19,404 samples, but val of kinetics400 has 19,796 where results are published: 392 fewer (-2.0%)"
    )
    assert "4 more (+0.0%)" in str(difference(origin, 19_800))
    assert difference(Origin("ava", "val", 64, ()), 57_000) is None
    assert str(difference(Origin("ava", "val", 64, ("a", "b")), 57_000)).startswith(
        "62 videos, but val of ava has 64 where results are published: 2 fewer (-3.1%)"
    )
    assert difference(Origin("kinetics600", "val", 5, ()), 5) is None
    assert difference(None, 5) is None
