"""Pixels of other channels than red, green and blue: grey, RGBA, and arrays of any number."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mae_dist.config.limits import DecodeLimits
from mae_dist.config.schema import AugmentConfig, InputConfig, ViewsConfig
from mae_dist.data.arrays import probe_array, read_array
from mae_dist.data.catalog import Catalog
from mae_dist.data.image import open_image, probe_image
from mae_dist.data.limits import DecodeError
from mae_dist.data.readers import build_catalog
from mae_dist.data.transforms import Box, crop_resize
from mae_dist.data.views import Request, ViewSpec, decode_views


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def png(pixels: np.ndarray, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def whole(data: bytes, channels: int) -> np.ndarray:
    """All pixels of a file, (H, W, C)."""
    image = open_image(data, channels=channels)
    return image.crop(Box(0, 0, image.height, image.width), image.height, image.width, "bicubic")[0]


def test_an_array_is_an_image_of_its_own_channels():
    pixels = noise(12, 20, 5)
    assert probe_array(npy(pixels)) == (12, 20, 5)
    assert probe_image(npy(pixels)) == ("npy", 20, 12)
    assert (read_array(npy(pixels))[0] == pixels).all()
    assert (whole(npy(pixels), 5) == pixels).all()
    assert (whole(npy(pixels[..., 0]), 1) == pixels[..., :1]).all()
    assert (whole(npy(np.asfortranarray(pixels)), 5) == pixels).all()


def test_grey_is_the_brightness_that_pillow_makes_of_colours():
    pixels = noise(12, 20, 3)
    expected = np.asarray(Image.fromarray(pixels).convert("L"))
    assert (whole(png(pixels), 1)[..., 0] == expected).all()
    assert (whole(png(pixels[..., 0]), 1)[..., 0] == pixels[..., 0]).all()
    jpeg = png(pixels, "JPEG")
    assert (whole(jpeg, 1)[..., 0] == np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"))).all()


def test_four_channels_of_an_image_are_its_colours_and_how_opaque_it_is():
    pixels = noise(12, 20, 4)
    assert (whole(png(pixels), 4) == pixels).all()
    assert (whole(png(pixels[..., :3]), 4)[..., 3] == 255).all()


@pytest.mark.parametrize(
    ("data", "channels", "reason"),
    [
        (npy(noise(4, 4, 5)), 3, "an array of 5 channels, and input.channels is 3"),
        (png(noise(4, 4, 3)), 5, "an image has no 5 channels, which input.channels asks for; an array has"),
        (npy(np.zeros((4, 4, 3), np.float32)), 3, "an array of float32 (4, 4, 3); expected uint8"),
        (npy(noise(4, 4, 3, 2)), 3, "an array of uint8 (4, 4, 3, 2); expected uint8"),
        (npy(noise(4, 4, 3))[:100], 3, "not a readable array: "),
        (npy(noise(4, 4, 3))[:-10], 3, "not a readable array: "),
        (npy(np.array([[{}]], dtype=object)), 3, "an array of object (1, 1); expected uint8"),
    ],
)
def test_an_array_or_image_that_does_not_fit_is_refused(data, channels, reason):
    with pytest.raises(DecodeError) as caught:
        open_image(data, channels=channels)
    assert str(caught.value).startswith(reason)


def test_an_array_that_claims_to_be_too_large_is_refused_before_it_is_read():
    claim = npy(noise(4, 4, 3)).replace(b"(4, 4, 3)", b"(9**9, 4)"[:9])
    with pytest.raises(DecodeError, match="not a readable array"):
        open_image(claim)
    with pytest.raises(DecodeError, match="60x20 pixels, the limit is 100"):
        open_image(npy(noise(20, 20, 3)), DecodeLimits(pixels=100))


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
@pytest.mark.parametrize("size", [(10, 6), (128, 96)])  # by Pillow, and by torch
def test_each_channel_is_resampled_as_it_would_be_alone(channels, size):
    clip = noise(2, 40, 30, channels)
    box = Box(2, 3, 35, 25)
    together = crop_resize(clip, box, *size, "bicubic")
    assert together.shape == (2, *size, channels)
    for channel in range(channels):
        colours = clip[..., channel : channel + 1].repeat(3, axis=-1)
        alone = crop_resize(colours, box, *size, "bicubic")[..., 0]
        assert (together[..., channel] == alone).all()


@pytest.mark.parametrize("test", [None, ViewsConfig(crops=3)])
def test_views_have_the_channels_of_the_input(test, make_video):
    size = InputConfig(frames=2, height=16, width=24, channels=1, mean=(0.5,), std=(0.25,))
    spec = ViewSpec(seed=0, input=size, augment=AugmentConfig(erasing=1.0), test=test)
    views = np.zeros((3, 2, 16, 24, 1), np.uint8)
    decode_views(Request(make_video(), "video", 0, (0, 1, 2)), spec, views)
    colour = np.zeros((3, 2, 16, 24, 3), np.uint8)
    plain = InputConfig(frames=2, height=16, width=24)
    decode_views(
        Request(make_video(), "video", 0, (0, 1, 2)),
        ViewSpec(seed=0, input=plain, augment=AugmentConfig(), test=test),
        colour,
    )
    grey = np.asarray(Image.fromarray(colour.reshape(-1, 24, 3)).convert("L")).reshape(views.shape)
    if test is not None:
        assert (views == grey).all()
    else:
        assert (views != grey).any()  # erased
        assert (views == grey).mean() > 0.5


def test_a_video_of_five_channels_is_refused(make_video):
    size = InputConfig(channels=5, mean=(0.5,) * 5, std=(0.25,) * 5, height=8, width=8)
    spec = ViewSpec(seed=0, input=size, augment=AugmentConfig())
    with pytest.raises(DecodeError, match=r"a video has 3 channels, and input\.channels is 5"):
        decode_views(Request(make_video(), "video", 0, (0,)), spec, np.zeros((1, 1, 8, 8, 5), np.uint8))


def test_a_folder_of_arrays_is_a_folder_of_images(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "0.npy").write_bytes(npy(noise(4, 4, 5)))
    catalog = build_catalog(str(tmp_path))
    assert isinstance(catalog, Catalog)
    assert (catalog.num_samples, catalog.classes) == (2, ("a", "b"))
