"""Pictures: their sizes, and what is said about a file that holds none."""

import io

import numpy as np
import pytest
from PIL import Image

from mae_dist.report.gallery import (
    ANIMATION_BYTES,
    FRAMES_SHOWN,
    KINDS,
    Gallery,
    GalleryError,
    animation_gif,
    animation_webp,
    read_gallery,
    sheet_png,
    side_by_side,
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


def sample_of(num_frames, height, width):
    return Gallery(
        **{
            kind: np.random.default_rng(number).integers(0, 256, (1, num_frames, height, width, 3), np.uint8)
            for number, kind in enumerate(KINDS)
        }
    )


def test_the_sheet_of_an_image_is_its_three_pictures_side_by_side():
    gallery = sample_of(1, 24, 300)
    sheet = np.asarray(Image.open(io.BytesIO(sheet_png(gallery, 0))))
    assert sheet.shape == (24, 3 * 300 + 2 * 2, 4)
    for number, kind in enumerate(KINDS):
        assert (sheet[:, number * 302 : number * 302 + 300, :3] == getattr(gallery, kind)[0, 0]).all()
    assert (sheet[:, 300:302, 3] == 0).all()


def test_the_sheet_of_a_clip_has_a_row_of_frames_for_each_of_the_three():
    gallery = sample_of(16, 24, 16)
    sheet = np.asarray(Image.open(io.BytesIO(sheet_png(gallery, 0))))
    assert sheet.shape == (3 * 24 + 2 * 2, FRAMES_SHOWN * 16 + (FRAMES_SHOWN - 1) * 2, 4)
    for number, kind in enumerate(KINDS):
        row = sheet[number * 26 : number * 26 + 24, :, :3]
        assert (row[:, :16] == getattr(gallery, kind)[0, 0]).all()
        assert (row[:, -16:] == getattr(gallery, kind)[0, -1]).all()


def test_three_clips_play_beside_each_other_frame_by_frame():
    gallery = sample_of(5, 24, 16)
    frames = side_by_side(gallery, 0)
    assert frames.shape == (5, 24, 3 * 16 + 4, 3)
    for number, kind in enumerate(KINDS):
        assert (frames[:, :, number * 18 : number * 18 + 16] == getattr(gallery, kind)[0]).all()
    assert (frames[:, :, 16:18] == 255).all()


def test_a_gif_has_every_frame_and_starts_again():
    flat = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (0, 100, 200)])
    gif = Image.open(io.BytesIO(animation_gif(flat)))
    assert (gif.n_frames, gif.info["loop"]) == (3, 0)
    for frame, level in enumerate((0, 100, 200)):
        gif.seek(frame)
        assert (np.asarray(gif.convert("RGB")) == level).all()
