"""What may be asked for, and a destination that is never made in two ways."""

from __future__ import annotations

import pytest

from mae_dist import storage
from mae_dist.data.catalog import Catalog
from mae_dist.data.prepare.settings import PrepareError, Settings, claim


def catalog_of(*media: str, label: int = 0) -> Catalog:
    one = [
        Catalog.of(keys=[name], uris=[f"/{name}"], media=name, labels=[label], classes=["a"])
        for name in media
    ]
    import pyarrow as pa

    return Catalog(pa.concat_tables([its.table for its in one]).unify_dictionaries(), ("a",), 1)


IMAGES, VIDEOS = catalog_of("image"), catalog_of("video")


def test_what_is_not_said_is_what_is_usual_for_the_medium():
    images, videos = Settings.of(IMAGES), Settings.of(VIDEOS)
    assert (images.quality, images.keyframe_every, images.shard_size) == (90, None, 4096)
    assert (videos.quality, videos.keyframe_every, videos.shard_size) == (20, 12, 128)


@pytest.mark.parametrize(
    ("source", "asked", "complaint"),
    [
        (VIDEOS, {"short_side": 225}, "the short side must be even and at least 2 pixels, got 225"),
        (VIDEOS, {"quality": 0}, "the quality is x264's constant rate factor, 51 .worst. to 1 .best., got 0"),
        (IMAGES, {"quality": 101}, "the quality is JPEG's quality, 1 .worst. to 100 .best., got 101"),
        (VIDEOS, {"keyframe_every": 0}, "a keyframe comes every 1 or more frames, got 0"),
        (IMAGES, {"keyframe_every": 12}, "keyframes are for videos, but 12 was given for images"),
        (IMAGES, {"shard_size": 0}, "a shard holds 1 or more samples, got 0"),
        (IMAGES, {"seed": -1}, "the seed is 0 or more, got -1"),
        (IMAGES, {"seconds": 0.0}, "a sample needs more than 0 seconds, got 0"),
        (
            catalog_of("image", "video"),
            {},
            "the source holds image and video samples; prepare each kind on its own",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_be_right(source, asked, complaint):
    with pytest.raises(PrepareError, match=complaint):
        Settings.of(source, **asked)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(PrepareError, match=r"the short side .*; the quality .*; a shard holds"):
        Settings.of(IMAGES, short_side=1, quality=0, shard_size=0)


def test_the_same_preparation_may_go_on_where_it_began(place):
    for _ in range(2):
        claim(f"{place}/out", IMAGES, "images", Settings.of(IMAGES))
    assert storage.read_json(f"{place}/out/prepare.json")["source"]["uri"] == "images"


def test_other_settings_are_refused_with_the_differences(tmp_path):
    claim(str(tmp_path), VIDEOS, "videos", Settings.of(VIDEOS))
    with pytest.raises(
        PrepareError,
        match=r"was begun in another way: short side 256, now 128; keyframe every 12, now 6\. Give",
    ):
        claim(str(tmp_path), VIDEOS, "videos", Settings.of(VIDEOS, short_side=128, keyframe_every=6))


def test_other_samples_are_refused(tmp_path):
    claim(str(tmp_path), IMAGES, "images", Settings.of(IMAGES))
    with pytest.raises(PrepareError, match=r"source digest [0-9a-f]{12}, now [0-9a-f]{12}\."):
        claim(str(tmp_path), catalog_of("image", label=-1), "images", Settings.of(IMAGES))


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(PrepareError, match=r"is not empty \(thesis.tex\) and holds no prepare.json"):
        claim(str(tmp_path), IMAGES, "images", Settings.of(IMAGES))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", [{}, []])
def test_a_manifest_that_is_none_is_refused(content, tmp_path):
    storage.write_json(str(tmp_path / "prepare.json"), content)
    with pytest.raises(PrepareError, match="format None, now 1"):
        claim(str(tmp_path), IMAGES, "images", Settings.of(IMAGES))
