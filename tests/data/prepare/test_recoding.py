"""One sample made smaller, here and in the process that may be killed."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mae_dist.data.limits import DecodeError
from mae_dist.data.prepare import recoding
from mae_dist.data.prepare.recoding import Recoder, recode
from mae_dist.data.prepare.settings import Settings
from tests.data.prepare.sources import picture, recode_badly

IMAGES = Settings(
    media="image", short_side=24, quality=90, keyframe_every=None, shard_size=8, seed=0, seconds=10
)
VIDEOS = Settings(
    media="video", short_side=24, quality=20, keyframe_every=5, shard_size=8, seed=0, seconds=10
)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


@pytest.mark.parametrize("size", [(24, 24), (20, 500), (500, 23)])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_an_image_that_is_not_larger_is_kept_byte_for_byte(size, format):
    data = picture(3, height=size[0], width=size[1], format=format)
    assert recode(data, IMAGES).data is data


@pytest.mark.parametrize("size", [(40, 56), (56, 40), (25, 99), (400, 400)])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_larger_image_is_near_pillows_resize(size, format):
    data = picture(3, height=size[0], width=size[1], format=format)
    made = recode(data, IMAGES)
    scale = 24 / min(size)
    wanted = (round(size[1] * scale), round(size[0] * scale))
    expected = Image.open(io.BytesIO(data)).convert("RGB").resize(wanted, Image.Resampling.BICUBIC)
    found = pixels(made.data)
    assert found.shape == (wanted[1], wanted[0], 3)
    # What JPEG with half the resolution of the colours loses.
    file = io.BytesIO()
    expected.save(file, "JPEG", quality=90, subsampling="4:2:0")
    lost = np.abs(pixels(file.getvalue()) - np.asarray(expected)).mean()
    assert np.abs(found - np.asarray(expected)).mean() <= lost


def test_what_is_written_is_a_jpeg_without_the_originals_orientation():
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(picture(1))).save(file, "JPEG", exif=exif)
    made = Image.open(io.BytesIO(recode(file.getvalue(), IMAGES).data))
    assert made.format == "JPEG"
    assert made.size == (34, 24)
    assert not made.getexif()


def test_an_image_too_long_for_jpeg_is_kept():
    file = io.BytesIO()
    Image.new("L", (70_000, 25)).save(file, "PNG")
    data = file.getvalue()
    assert recode(data, IMAGES).data is data


def test_a_video_says_how_many_frames_it_has_and_how_fast_they_come(make_video):
    made = recode(make_video(num_frames=7), VIDEOS)
    assert (made.frames, made.fps) == (7, pytest.approx(10))


@pytest.mark.parametrize("settings", [IMAGES, VIDEOS], ids=["image", "video"])
@pytest.mark.parametrize(("data", "reason"), [(b"", "the file is empty"), (b"text", "not a readable")])
def test_what_cannot_be_decoded_is_refused(settings, data, reason):
    with pytest.raises(DecodeError, match=reason):
        recode(data, settings)


def test_a_damaged_image_that_would_be_kept_is_refused():
    data = picture(1, height=20, width=20)
    with pytest.raises(DecodeError):
        recode(data[: len(data) // 2], IMAGES)


def test_the_process_gives_the_same_as_this_one(make_video):
    small = picture(1, height=20, width=20)
    with Recoder(IMAGES) as recoder:
        assert recoder(small).data is small
        for number in range(3):
            assert recoder(picture(number)).data == recode(picture(number), IMAGES).data
        with pytest.raises(DecodeError, match="not a readable image: of no known format"):
            recoder(b"text")
        assert recoder(picture(5)).data == recode(picture(5), IMAGES).data
    video = make_video()
    with Recoder(VIDEOS) as recoder:
        assert recoder(video) == recode(video, VIDEOS)


@pytest.mark.parametrize(
    ("mishap", "reason"),
    [
        ("crash", "the decoder crashed, by SIGABRT"),
        ("burn", r"decoding took more than 0\.5 s of CPU time"),
    ],
)
def test_a_codec_that_goes_wrong_costs_one_sample(mishap, reason, monkeypatch):
    monkeypatch.setattr(recoding, "_recode_into", recode_badly)
    with Recoder(replace(IMAGES, seconds=0.5)) as recoder:
        with pytest.raises(DecodeError, match=reason):
            recoder(mishap.encode())
        assert recoder(picture(5)).data == recode(picture(5), IMAGES).data
