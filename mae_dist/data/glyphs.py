"""Drawn glyphs for the showcase: a labelled set of images that needs no data file.

Each image shows one digit in one of the text fonts that Matplotlib ships, under a random affine map, in a
random colour, over a random textured background and partly covered by a random stroke. Colour, position,
size, slant, font and background carry no information about the class: only the shape does.
"""

from __future__ import annotations

import functools
import io
import math
import pathlib

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from mae_dist import storage
from mae_dist.data import keys

GLYPHS = "0123456789"
"""The classes: the image with label `i` shows `GLYPHS[i]`."""

FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-Italic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralItalic.ttf",
    "STIXGeneralBolIta.ttf",
    "cmr10.ttf",
    "cmb10.ttf",
    "cmss10.ttf",
    "cmtt10.ttf",
)
"""Font files, all under Matplotlib's own `mpl-data/fonts/ttf`."""

_SHARD_ROWS = 2000
_GROUP_ROWS = 64


@functools.cache
def _glyph_mask(font_file: str, glyph: str, size: int) -> Image.Image:
    """Return the glyph's coverage ("L" image, size x size), centred, 60% of the height."""
    path = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / font_file
    if not path.is_file():
        raise FileNotFoundError(
            f"Matplotlib {matplotlib.__version__} ships no font file {font_file!r} (looked in {path.parent})"
        )
    # First at a large fixed size, to scale every font's digits to the same height.
    font = ImageFont.truetype(str(path), 100)
    left, top, right, bottom = font.getbbox(glyph)
    font = ImageFont.truetype(str(path), 100 * 0.6 * size / (bottom - top))
    left, top, right, bottom = font.getbbox(glyph)
    mask = Image.new("L", (size, size), 0)
    origin = ((size - left - right) / 2, (size - top - bottom) / 2)
    ImageDraw.Draw(mask).text(origin, glyph, fill=255, font=font)
    return mask


def draw_image(rng: np.random.Generator, label: int, size: int) -> np.ndarray:
    """Draw one random image of the glyph `GLYPHS[label]`.

    The result is a pure function of the generator's state, `label` and `size`: the
    same three give the same bytes.  No draw from `rng` depends on `label`, so with
    equal generators two labels differ in the glyph's shape alone.

    Advances `rng`; 0 <= label < len(GLYPHS); `size` is height and width in pixels, at least 8 (32 is
    meant). Returns uint8 (size, size, 3), RGB. Raises ValueError for a label or size out of range,
    FileNotFoundError if the installed Matplotlib lacks one of FONTS.
    """
    if not 0 <= label < len(GLYPHS):
        raise ValueError(f"label must be in [0, {len(GLYPHS)}), not {label}")
    if size < 8:
        raise ValueError(f"size must be at least 8, not {size}")

    # Colours: the glyph differs from the background by 70 to 130 grey levels in
    # brightness, in either direction, and by any amount in hue.
    contrast = rng.uniform(70, 130) * rng.choice((-1.0, 1.0))
    middle = rng.uniform(100, 155)
    back = middle - contrast / 2 + rng.uniform(-40, 40, 3)
    fore = middle + contrast / 2 + rng.uniform(-40, 40, 3)

    # Background: a plain colour, a linear shade and a sinusoidal grating.
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    shade_angle, grating_angle, phase = rng.uniform(0, 2 * math.pi, 3)
    shade = math.cos(shade_angle) * x + math.sin(shade_angle) * y
    ramp = math.cos(grating_angle) * x + math.sin(grating_angle) * y
    grating = np.sin(2 * math.pi * rng.uniform(1, 5) * ramp + phase)
    image = back + shade[..., None] * rng.uniform(-30, 30, 3) + grating[..., None] * rng.uniform(-12, 12, 3)

    # Glyph: rotated, slanted, scaled, stretched and shifted.  Pillow wants the inverse
    # map, from output to input pixels, so the matrix below is built as an inverse.
    font_file = FONTS[rng.integers(len(FONTS))]
    angle = math.radians(rng.uniform(-12, 12))
    slant = rng.uniform(-0.15, 0.15)
    zoom = 1 / rng.uniform(1.0, 1.4)
    stretch = math.sqrt(rng.uniform(0.75, 1.3))
    shift = rng.uniform(-0.08, 0.08, 2) * size
    rotate = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    inverse = zoom * np.diag([stretch, 1 / stretch]) @ np.array([[1, slant], [0, 1]]) @ rotate
    centre = np.full(2, size / 2)
    offset = centre - inverse @ (centre + shift)
    matrix = (*inverse[0], offset[0], *inverse[1], offset[1])
    mask = _glyph_mask(font_file, GLYPHS[label], size).transform(
        (size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    cover = np.asarray(mask, np.float64)[..., None] / 255
    image = image + (fore - image) * cover

    # Occlusion: one straight stroke in another colour, over glyph and background alike.
    canvas = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    ends = [float(end) for end in rng.uniform(-0.1, 1.1, 4) * size]
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    width = max(1, round(size * rng.uniform(0.03, 0.09)))
    ImageDraw.Draw(canvas).line(ends, fill=(red, green, blue), width=width)

    # Sensor noise.
    noisy = np.asarray(canvas, np.float64) + rng.normal(0, 4, (size, size, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def write_glyphs(folder_uri: str, num_images: int, seed: int, *, size: int = 32) -> str:
    """Write PNGs in Parquet shards (columns image, label); returns the folder.

    Labels take turns, so classes are balanced. Image i depends on (seed, i) and `size` alone.
    """
    for start in range(0, num_images, _SHARD_ROWS):
        indices = range(start, min(start + _SHARD_ROWS, num_images))
        labels = [index % len(GLYPHS) for index in indices]
        images = [
            _png(draw_image(keys.rng(seed, 0, index, "glyph"), label, size))
            for index, label in zip(indices, labels, strict=True)
        ]
        table = pa.table({"image": pa.array(images, pa.binary()), "label": pa.array(labels, pa.int32())})
        packed = io.BytesIO()
        pq.write_table(table, packed, row_group_size=_GROUP_ROWS)
        storage.write_bytes(
            storage.join(folder_uri, f"glyphs-{start // _SHARD_ROWS:05d}.parquet"), packed.getvalue()
        )
    return folder_uri


def _png(image: np.ndarray) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, format="png", compress_level=1)
    return packed.getvalue()
