"""Every sample is looked at, and none of them can harm the one who looks."""

from __future__ import annotations

import hashlib
import io
import math
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mae_dist import storage
from mae_dist.data.audit import facts
from mae_dist.data.audit import findings as findings_module
from mae_dist.data.audit.facts import FactSpec
from mae_dist.data.audit.findings import FINDINGS, audit, digests
from mae_dist.data.catalog import Catalog
from mae_dist.data.limits import DecodeError
from mae_dist.data.readers import build_catalog
from mae_dist.data.views import Request
from tests.faults.hostile import corpus, good_images, good_videos

OPENED, DECODED = FactSpec(), FactSpec(decode=True)


def by_name(catalog: Catalog, findings: pa.Table) -> dict[str, dict]:
    assert findings["sample"].to_pylist() == list(range(catalog.num_samples))
    return dict(zip(catalog.table["key"].to_pylist(), findings.to_pylist(), strict=True))


def test_a_sound_video_is_told_by_its_facts(catalog_of, make_video):
    data = make_video(num_frames=20)
    [found] = audit(catalog_of({"a.mp4": data}), OPENED).to_pylist()
    assert found == {
        "sample": 0,
        "reason": None,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).digest(),
        "codec": "h264",
        "width": 64,
        "height": 48,
        "frames": 20,
        "fps": 10.0,
        "is_timed": True,
    }


@pytest.mark.parametrize("spec", [OPENED, DECODED])
def test_an_image_is_one_frame_without_a_rate(catalog_of, make_image, spec):
    catalog = catalog_of({"a.png": make_image(1), "b.jpg": make_image(2, format="JPEG", height=40)})
    png, jpeg = audit(catalog, spec).to_pylist()
    assert (png["codec"], png["width"], png["height"], png["frames"]) == ("png", 32, 24, 1)
    assert (jpeg["codec"], jpeg["height"]) == ("jpeg", 40)
    assert math.isnan(png["fps"])


@pytest.mark.parametrize("spec", [OPENED, DECODED])
def test_what_is_corrupt_has_its_reason_and_no_facts(troubled, spec):
    found = by_name(troubled, audit(troubled, spec))
    corrupt = {name: its["reason"] for name, its in found.items() if its["reason"] is not None}
    unreadable = "not a readable video: Invalid data found when processing input"
    assert corrupt == {
        "walk/page.mp4": unreadable,
        "walk/page_again.mp4": unreadable,
        "walk/without_its_end.mp4": unreadable,
    }
    assert found["walk/page.mp4"]["bytes"] == 54
    assert {found["walk/page.mp4"][name] for name in ("codec", "width", "frames", "fps", "is_timed")} == {
        None
    }


def test_damage_within_an_image_shows_when_it_is_decoded(catalog_of, make_image):
    data = make_image(1, format="JPEG", height=200, width=200)
    catalog = catalog_of({"a.jpg": data[: len(data) // 2]})
    assert audit(catalog, OPENED)["reason"].to_pylist() == [None]
    [reason] = audit(catalog, DECODED)["reason"].to_pylist()
    assert reason.startswith("not a readable image: image file is truncated")


def test_a_file_that_went_away_or_changed_is_a_finding(troubled):
    uris = troubled.table["uri"].to_pylist()
    storage.delete(uris[0])
    storage.write_bytes(uris[1], b"shorter")
    length = troubled.table["length"][1].as_py()
    found = audit(troubled, OPENED)
    assert found["reason"].to_pylist()[:3] == [
        "the file is missing",
        f"7 bytes are there, the catalog says {length}: it has changed since then",
        None,
    ]
    assert found["bytes"].to_pylist()[:2] == [-1, -1]


def test_samples_in_shards_are_found_like_files(tmp_path, make_image):
    images = [make_image(number) for number in range(5)]
    pq.write_table(pa.table({"image": [*images, None, b"no image"]}), tmp_path / "rows.parquet")
    with tarfile.open(tmp_path / "members.tar", "w") as tar:
        for number, image in enumerate([*images, b"no image"]):
            info = tarfile.TarInfo(f"{number:03}.png")
            info.size = len(image)
            tar.addfile(info, io.BytesIO(image))
    rows = audit(build_catalog(str(tmp_path / "rows.parquet")), DECODED)
    members = audit(build_catalog(str(tmp_path / "members.tar")), DECODED)
    unknown = "not a readable image: of no known format"
    assert rows["reason"].to_pylist() == [None] * 5 + ["the file is empty", unknown]
    assert members["reason"].to_pylist() == [None] * 5 + [unknown]
    expected = [hashlib.sha256(image).digest() for image in images]
    assert rows["sha256"].to_pylist()[:5] == members["sha256"].to_pylist()[:5] == expected


@pytest.mark.slow
def test_hostile_files_cost_a_line_each(catalog_of):
    """A few of each kind; tests/faults has all of them decoded."""
    hostile = {name: data for name, (medium, data) in corpus().items() if medium == "video"}
    wanted = [name for name in hostile if name.startswith(("an mp4", "a y4m", "noise", "a playlist"))]
    files = {f"{name}.mp4": hostile[name] for name in wanted} | {"good.mp4": good_videos()["h264.mp4"]}
    catalog = catalog_of(files)
    opened, decoded = (by_name(catalog, audit(catalog, spec)) for spec in (OPENED, DECODED))
    assert len(files) > 20
    for name in (
        "an mp4 without its index",
        "a y4m of 16k x 16k",
        "a playlist of this machine's files as a video",
    ):
        assert opened[f"{name}.mp4"]["reason"], name
    assert opened["good.mp4"]["reason"] is decoded["good.mp4"]["reason"] is None
    reasons = {name: its["reason"] for name, its in decoded.items() if its["reason"] is not None}
    assert not any(reason.startswith("the decoder") for reason in reasons.values())
    assert {name for name, its in opened.items() if its["reason"]} <= set(reasons)


@pytest.mark.slow
def test_hostile_images_cost_a_line_each(catalog_of):
    hostile = {name: data for name, (medium, data) in corpus().items() if medium == "image"}
    wanted = [name for name in hostile if name.startswith(("a jpeg", "a png of", "a bmp", "zeros"))]
    files = {f"{name}.png": hostile[name] for name in wanted}
    catalog = catalog_of(files | {"good.png": good_images()["picture.png"]})
    found = by_name(catalog, audit(catalog, DECODED))
    assert found["good.png"]["reason"] is None
    assert "268435456 pixels" in found["a png of 16k x 16k.png"]["reason"]
    # These two end with an end marker, and libjpeg makes up what is missing before it.
    tolerated = {"a jpeg of 4k x 4k that ends early.png", "a jpeg with a thousand restarts.png"}
    assert {name for name in files if found[name]["reason"] is None} == tolerated


def test_a_mistake_in_a_reader_costs_the_sample_that_met_it(monkeypatch):
    def fail(data, limits, *, decode):
        raise AttributeError("no attribute 'width'")

    monkeypatch.setattr(facts, "probe_video", fail)
    with pytest.raises(DecodeError, match="its reader failed with AttributeError: no attribute 'width'"):
        facts.find_facts(Request(b"a video", "video", 0, ()), OPENED, np.zeros(256, np.uint8))


def test_findings_are_the_same_whoever_looks_in_whatever_order(troubled):
    def backwards(work, items):
        return reversed([work(item) for item in items])

    assert audit(troubled, OPENED, spread=backwards).equals(audit(troubled, OPENED))


def test_samples_at_one_place_are_looked_at_once(keyframes):
    seen = []
    findings = audit(keyframes, OPENED, show=lambda *what: seen.append(what))
    assert seen[-1] == ("samples audited", 3, 3)
    assert findings["sample"].to_pylist() == list(range(6))
    assert findings["frames"].to_pylist() == [20, 20, 30, 30, 20, 20]


def test_progress_counts_samples(troubled):
    seen = []
    audit(troubled, OPENED, show=lambda *what: seen.append(what))
    assert seen[-1] == ("samples audited", 8, 8)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_tasks_are_whole_chunks_of_few_bytes(catalog_of):
    def sizes(num_samples: int, chunk: int, length: int) -> list[int]:
        catalog = Catalog.of(
            keys=["a"] * num_samples,
            uris=["a"] * num_samples,
            media="image",
            labels=[0] * num_samples,
            classes=["a"],
            lengths=[length] * num_samples,
            chunk=chunk,
        )
        groups: list[np.ndarray] = []
        digests(catalog, np.arange(num_samples), spread=lambda work, items: groups.extend(items) or [])
        assert np.concatenate(groups).tolist() == list(range(num_samples))
        return [len(group) for group in groups]

    assert sizes(10, 1, 1000) == [1] * 10
    assert max(sizes(100_000, 1, 1000)) == findings_module._GROUP_SAMPLES
    assert sizes(1200, 500, 1000) == [500, 500, 200]
    assert max(sizes(1000, 1, findings_module._GROUP_BYTES // 3)) == 3


def test_digests_are_found_without_opening(troubled):
    found = digests(troubled, np.array([1, 4]))
    whole = audit(troubled, OPENED)
    assert found["sample"].to_pylist() == [1, 4]
    assert found["sha256"].to_pylist() == [whole["sha256"][n].as_py() for n in (1, 4)]
    assert found["codec"].null_count == 2
    assert digests(troubled, np.array([], dtype=np.int64)).equals(FINDINGS.empty_table())
