"""Images as clips of one frame, and files that are no images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.image import read_image
from mae_dist.data.limits import DecodeError


def encode(pixels: np.ndarray, mode: str | None = None, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(file, format, **options)
    return file.getvalue()


PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
GREY = PIXELS[..., :1].repeat(3, 2)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(PIXELS), PIXELS),
        (encode(PIXELS, format="WEBP", lossless=True), PIXELS),
        (encode(PIXELS, mode="RGBA"), PIXELS),
        (encode(PIXELS[..., 0]), GREY),
        (encode(PIXELS[..., 0].astype(np.uint16) * 256), GREY),
    ],
    ids=["RGB", "WebP", "RGBA", "grey", "16-bit grey"],
)
def test_an_image_becomes_one_rgb_frame(data, expected):
    frame = read_image(data)
    assert frame.dtype == np.uint8
    assert (frame == expected[None]).all()


def test_a_jpeg_decodes_as_pillow_does():
    data = encode(PIXELS, format="JPEG")
    assert (read_image(data)[0] == np.asarray(Image.open(io.BytesIO(data)))).all()


def test_a_palette_with_transparency_is_no_warning():
    data = encode(PIXELS, mode="P", transparency=bytes(range(256)))
    assert read_image(data).shape == (1, 12, 20, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"not an image at all", "not a readable image"),
        (encode(PIXELS)[:200], "not a readable image"),
        (encode(PIXELS, format="JPEG")[:300], "not a readable image"),
        (encode(PIXELS)[:40] + b"\xff" * 40 + encode(PIXELS)[80:], "not a readable image"),
    ],
    ids=["empty", "text", "cut PNG", "cut JPEG", "damaged PNG"],
)
def test_a_broken_image_is_refused_with_the_reason(data, reason):
    with pytest.raises(DecodeError, match=reason):
        read_image(data)


def test_an_image_beyond_the_limit_is_refused_from_its_header():
    bomb = encode(np.zeros((9000, 9000), dtype=bool))
    assert len(bomb) < 100_000
    with pytest.raises(DecodeError, match="9000x9000 pixels, the limit is 64,000,000"):
        read_image(bomb)
    with pytest.raises(DecodeError, match="20x12 pixels, the limit is 100"):
        read_image(encode(PIXELS), DecodeLimits(pixels=100))
