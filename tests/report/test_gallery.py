"""Pictures: their sizes, and what is said about a file that holds none."""

import io

import numpy as np
import pytest
from PIL import Image

from mae_dist.report.gallery import (
    ANIMATION_BYTES,
    FRAMES_SHOWN,
    KINDS,
    GalleryError,
    animation_webp,
    read_gallery,
    strip_png,
)


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_an_image_is_kept_pixel_for_pixel():
    image = noise(1, 24, 40, 3)
    shown = np.asarray(Image.open(io.BytesIO(strip_png(image))))
    assert (shown[..., :3] == image[0]).all()


def test_a_filmstrip_shows_the_first_and_the_last_frame():
    clip = noise(16, 8, 8, 3)
    shown = np.asarray(Image.open(io.BytesIO(strip_png(clip))))[..., :3]
    assert (shown[:, :8] == clip[0]).all()
    assert (shown[:, -8:] == clip[-1]).all()


@pytest.mark.parametrize("num_frames", [2, 5, 8, 16])
def test_a_filmstrip_shows_as_many_frames_as_fit(num_frames):
    width = Image.open(io.BytesIO(strip_png(noise(num_frames, 8, 8, 3)))).width
    assert (width + 2) // 10 == min(num_frames, FRAMES_SHOWN)


def test_large_frames_are_shrunk_and_keep_their_shape():
    strip = Image.open(io.BytesIO(strip_png(np.zeros((2, 448, 224, 3), np.uint8))))
    assert strip.height < 224
    assert strip.width == pytest.approx(strip.height, abs=4)


def test_an_animation_plays_every_frame_unless_it_is_too_large():
    gallery = read_gallery(npz(**{kind: noise(1, 6, 16, 16, 3) for kind in KINDS}))
    data = animation_webp(gallery, 0)
    assert data is not None
    assert Image.open(io.BytesIO(data)).n_frames == 6
    gallery = read_gallery(npz(**{kind: noise(1, 96, 112, 112, 3) for kind in KINDS}))
    assert animation_webp(gallery, 0) is None
    assert len(data) < ANIMATION_BYTES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"not an archive", "cannot be read"),
        (npz(original=noise(1, 1, 8, 8, 3)), "masked"),
        (npz(**{kind: np.array(["text"], dtype=object) for kind in KINDS}), "cannot be read"),
        (
            npz(**{kind: np.zeros((1, 1, 8, 8, 3)) for kind in KINDS}),
            r"original should be uint8 .* got float64",
        ),
        (
            npz(
                original=noise(1, 1, 8, 8, 3), masked=noise(2, 1, 8, 8, 3), reconstructed=noise(1, 1, 8, 8, 3)
            ),
            r"masked should be uint8 .* \(2, 1, 8, 8, 3\) beside an original of \(1, 1, 8, 8, 3\)",
        ),
    ],
)
def test_a_file_that_holds_no_gallery_is_refused_with_the_reason(content, message):
    with pytest.raises(GalleryError, match=message):
        read_gallery(content)
