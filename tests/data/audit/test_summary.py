"""The page of an audit: every problem counted and named."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mae_dist.data.audit.facts import FactSpec
from mae_dist.data.audit.findings import audit
from mae_dist.data.audit.repeats import leak
from mae_dist.data.audit.summary import per_sample, summarise
from mae_dist.data.catalog import Origin


def summary_of(catalog, *, others=None, min_frames=16):
    findings = audit(catalog, FactSpec())
    leaks = {uri: (other, leak(findings, other)) for uri, other in (others or {}).items()}
    return summarise(
        catalog, findings, uri="clips.parquet", decoded=False, min_frames=min_frames, others=leaks
    )


def test_every_problem_is_counted_and_named(troubled, catalog_of, troubled_files):
    other = catalog_of({"a.mp4": troubled_files["run/good.mp4"]}, "other")
    summary = summary_of(troubled, others={"other.parquet": other})
    assert summary["num_problems"] == {"corrupt": 3, "short": 1, "duplicates": 2, "conflicts": 3, "leaks": 3}
    assert [sample["key"] for sample in summary["corrupt"]] == [
        "walk/page.mp4",
        "walk/page_again.mp4",
        "walk/without_its_end.mp4",
    ]
    [short] = summary["short"]
    assert short == {
        "sample": 2,
        "key": "run/short.mp4",
        "uri": troubled.table["uri"][2].as_py(),
        "frames": 5,
    }
    [group] = summary["duplicates"]
    assert [(sample["key"], sample["label"]) for sample in group] == [
        ("run/good.mp4", 0),
        ("run/twice.mp4", 0),
        ("walk/same_as_a_run.mp4", 1),
    ]
    [leaks] = summary["leaks"]
    assert (leaks["catalog"], leaks["digest"]) == ("other.parquet", other.digest)
    assert [sample["there"]["key"] for sample in leaks["samples"]] == ["a.mp4"] * 3


def test_a_video_is_short_below_the_frames_that_are_wanted(troubled):
    assert summary_of(troubled, min_frames=5)["num_problems"]["short"] == 0
    assert summary_of(troubled, min_frames=21)["num_problems"]["short"] == 4


def test_a_movie_counts_once_and_a_problem_with_each_of_its_keyframes(keyframes):
    summary = summary_of(keyframes, min_frames=25)
    assert summary["catalog"]["num_samples"] == 6
    assert summary["videos"]["num_samples"] == 3
    assert summary["videos"]["total_seconds"] == pytest.approx(7)
    assert summary["num_problems"] == {"corrupt": 0, "short": 4, "duplicates": 2, "conflicts": 0, "leaks": 0}


def test_images_are_never_short(catalog_of, make_image):
    summary = summary_of(catalog_of({"a.png": make_image(1)}))
    assert summary["num_problems"]["short"] == 0
    assert summary["images"]["codecs"] == {"png": 1}
    assert summary["images"]["spread"]["width"]["median"] == 32
    assert "fps" not in summary["images"]["spread"]


def test_sound_videos_are_described(troubled):
    videos = summary_of(troubled)["videos"]
    assert (videos["num_samples"], videos["codecs"], videos["num_untimed"]) == (5, {"h264": 5}, 0)
    assert videos["spread"]["frames"]["least"] == 5
    assert videos["spread"]["frames"]["most"] == 30
    assert videos["total_seconds"] == pytest.approx((20 + 30 + 5 + 20 + 20) / 10)


def test_reasons_that_differ_in_numbers_are_counted_together(catalog_of, make_image):
    files = {f"{number}.jpg": make_image(number, format="JPEG", height=90 + number) for number in range(3)}
    catalog = catalog_of({name: data[:-200] for name, data in files.items()} | {"x.jpg": b"no image"})
    findings = audit(catalog, FactSpec(decode=True))
    summary = summarise(catalog, findings, uri="", decoded=True, min_frames=16, others={})
    assert [entry["num_samples"] for entry in summary["reasons"]] == [3, 1]
    assert summary["reasons"][0]["example"]["key"] == "0.jpg"


def test_it_is_json_even_where_everything_is_corrupt(catalog_of):
    summary = summary_of(catalog_of({"a.mp4": b"nothing"}))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["videos"]["spread"]["frames"] is None


def test_a_public_data_set_of_another_size_is_told(troubled):
    hmdb = replace(troubled, origin=Origin("hmdb51", "train1", 9, ("run/gone",)))
    about = summary_of(hmdb)["catalog"]
    assert about["origin"]["missing"] == ("run/gone",)
    assert about["difference"].startswith("8 samples, but train1 of hmdb51 has 3,570")


def test_every_sample_has_a_row(troubled, troubled_files):
    rows = per_sample(troubled, audit(troubled, FactSpec())).to_pylist()
    assert [row["key"] for row in rows] == sorted(troubled_files)
    assert [row["duplicate_of"] for row in rows] == [None, None, None, 0, None, None, 0, None]
    assert rows[0]["sha256"] == rows[3]["sha256"]
    assert (rows[0]["label"], rows[4]["label"], rows[0]["media"]) == (0, 1, "video")
