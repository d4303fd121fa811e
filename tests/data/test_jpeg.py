"""Crops of JPEG files against Pillow's decode, crop and resize of the same bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.image import open_image
from mae_dist.data.jpeg import Jpeg
from mae_dist.data.limits import DecodeError
from mae_dist.data.transforms import FILTERS, Box


def picture(height: int, width: int, blob: int = 12) -> np.ndarray:
    """Coloured blobs some `blob` pixels wide and a little noise: neighbouring pixels resemble each other."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // blob + 2, width // blob + 2, 3), dtype=np.uint8)
    coarse = Image.fromarray(coarse)
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def encode(pixels: np.ndarray, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **{"quality": 90, **options})
    return file.getvalue()


def by_pillow(data: bytes, box: Box, height: int, width: int, interpolation: str) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        cut = image.convert("RGB").crop((box.left, box.top, box.left + box.width, box.top + box.height))
        return np.asarray(cut.resize((width, height), FILTERS[interpolation]))


def difference(data: bytes, box: Box, height: int, width: int, interpolation: str) -> np.ndarray:
    """Absolute differences of one crop to Pillow's, in levels."""
    [frame] = open_image(data).crop(box, height, width, interpolation)
    assert frame.shape == (height, width, 3)
    assert frame.dtype == np.uint8
    return np.abs(frame.astype(int) - by_pillow(data, box, height, width, interpolation))


def random_box(height: int, width: int, rng: np.random.Generator) -> Box:
    h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
    return Box(int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w)


KINDS = {
    "4:4:4": {"subsampling": "4:4:4"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:2:0": {"subsampling": "4:2:0"},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_rows": 1},
    "optimised": {"optimize": True},
    "grey": {"mode": "L"},
    "RGB": {"keep_rgb": True},
}


@pytest.mark.parametrize("interpolation", sorted(FILTERS))
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_crop_equals_pillows(kind, interpolation):
    rng = np.random.default_rng(len(kind))
    for height, width in [(97, 131), (64, 64), (33, 200), (1, 9)]:
        data = encode(picture(height, width), **KINDS[kind])
        assert isinstance(open_image(data), Jpeg)
        for _ in range(8):
            box = random_box(height, width, rng)
            # Enlarged, shrunk or both, and to at least more than half in one direction.
            size = (int(rng.integers(box.height // 2 + 1, 120)), int(rng.integers(8, 120)))
            levels = difference(data, box, *size, interpolation)
            assert levels.max() <= 4
            assert levels.mean() < 0.25


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_crop_does_not_depend_on_earlier_crops(kind):
    data = encode(picture(211, 190), **KINDS[kind])
    rng = np.random.default_rng(3)
    boxes = [random_box(211, 190, rng) for _ in range(12)]
    # Rows that the crop before decoded only as the surroundings of its own last row.
    boxes += [Box(0, 0, bottom, 190) for bottom in (81, 82, 83, 211, 84)]
    for size in ((90, 80), (20, 20)):
        source = open_image(data)
        for box in boxes:
            once = open_image(data).crop(box, *size, "bicubic")
            assert (source.crop(box, *size, "bicubic") == once).all()


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("factor", [2, 3, 4, 9])
def test_a_crop_that_is_scaled_while_decoding_stays_close(kind, factor):
    """Of a large picture, whose details are larger in pixels too."""
    data = encode(picture(45 * factor, 51 * factor, blob=12 * factor), **KINDS[kind])
    whole = Box(0, 0, 45 * factor, 51 * factor)
    inner = Box(factor + 1, factor - 1, 40 * factor, 40 * factor)
    for box, size in ((whole, (45, 51)), (inner, (40, 40)), (inner, (33, 29))):
        assert difference(data, box, *size, "bicubic").mean() < 1.5


def test_twice_the_need_in_one_direction_only_is_not_scaled():
    data = encode(picture(200, 200), subsampling="4:4:4")
    for size in ((100, 101), (101, 100), (15, 100)):
        assert difference(data, Box(0, 0, 200, 200), *size, "bicubic").max() <= 4


def test_a_crop_without_resizing_is_the_decoded_pixels_and_may_be_changed():
    data = encode(picture(40, 60))
    for source in (open_image(data), open_image(encode_png(picture(40, 60)))):
        first = source.crop(Box(0, 0, 40, 60), 40, 60, "bicubic")
        kept = first.copy()
        first[:] = 0
        assert (source.crop(Box(0, 0, 40, 60), 40, 60, "bicubic") == kept).all()
    assert difference(data, Box(3, 5, 20, 30), 20, 30, "bicubic").max() == 0


def encode_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


ORDINARY = encode(picture(64, 80))


@pytest.mark.parametrize(
    "data",
    [
        encode(picture(64, 80), mode="CMYK"),
        ORDINARY + b"\0\0",
        ORDINARY[:-2] + bytes(260) + b"\xff\xd9",
        ORDINARY[:-2] + b"\xff\xd9" * 40,
        ORDINARY[:2] + b"\xff\xff" + ORDINARY[2:],
        ORDINARY[:2] + b"\0\0\0" + ORDINARY[2:],
    ],
    ids=["CMYK", "padded", "extraneous bytes", "many ends", "fill bytes", "bytes before a marker"],
)
def test_an_odd_file_reads_as_pillow_reads_it(data):
    try:
        expected = by_pillow(data, Box(0, 0, 40, 80), 50, 50, "bicubic")
    except OSError:
        with pytest.raises(DecodeError):
            open_image(data).crop(Box(0, 0, 40, 80), 50, 50, "bicubic")
    else:
        [frame] = open_image(data).crop(Box(0, 0, 40, 80), 50, 50, "bicubic")
        assert np.abs(frame.astype(int) - expected).max() <= 4


def test_a_file_that_ends_early_is_refused():
    for end in (len(ORDINARY) // 2, len(ORDINARY) - 40):
        with pytest.raises(DecodeError, match="not a readable image"):
            open_image(ORDINARY[:end]).crop(Box(0, 0, 64, 80), 50, 50, "bicubic")


@pytest.mark.parametrize("kind", ["4:2:0", "progressive"])
def test_flipped_bits_read_as_pillow_reads_them_or_are_refused(kind):
    """Whole images, so that Pillow and libjpeg-turbo see the same bytes."""
    data = encode(picture(64, 80), **KINDS[kind])
    rng = np.random.default_rng(5)
    same = refused = 0
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.integers(2, len(data) - 2)] ^= 1 << int(rng.integers(8))
        try:
            source = open_image(bytes(damaged))
            box = Box(0, 0, source.height, source.width)
            [frame] = source.crop(box, source.height, source.width, "bicubic")
        except DecodeError:
            refused += 1
            continue
        try:
            expected = by_pillow(bytes(damaged), box, source.height, source.width, "bicubic")
        except Exception:
            continue  # libjpeg-turbo minds less of what stands before the pixels
        same += 1
        assert (frame == expected).all()
    assert same > 100
    assert refused > 0


def test_a_jpeg_beyond_the_limit_is_refused_before_its_pixels_are_read():
    at = ORDINARY.index(b"\xff\xc0") + 5
    claim = ORDINARY[:at] + (30000).to_bytes(2, "big") * 2 + ORDINARY[at + 4 :]
    with pytest.raises(DecodeError, match="30000x30000 pixels, the limit is 64,000,000"):
        open_image(claim)
    with pytest.raises(DecodeError, match="80x64 pixels, the limit is 100"):
        open_image(ORDINARY, DecodeLimits(pixels=100))
