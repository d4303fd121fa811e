"""What the model sees and what it makes of it, as pictures that a page can hold.

gallery.npz -> Gallery (original, masked, reconstructed side by side) -> PNG strips, one animation per clip.
Letters: S samples, T frames, H, W pixels; all pictures are uint8 RGB.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np
from PIL import Image

KINDS = ("original", "masked", "reconstructed")
FRAMES_SHOWN = 8
"""Frames of a clip that a filmstrip shows, evenly spaced from the first to the last."""
STRIP_SIDE = 112
IMAGE_SIDE = 224
"""Longest side in pixels, so that a page of large clips stays small; smaller pictures stay as they are."""
ANIMATION_BYTES = 400_000
"""An animation that comes out larger is left away: the filmstrip shows the same."""
_GAP = 2
_FRAME_MILLISECONDS = 125


class GalleryError(ValueError):
    """gallery.npz does not hold three equal stacks of clips."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gallery:
    """The same S held-out samples three times, each uint8 (S, T, H, W, 3)."""

    original: np.ndarray
    masked: np.ndarray
    """Only what the encoder saw; hidden patches are filled with something plain."""
    reconstructed: np.ndarray

    def __post_init__(self) -> None:
        shape = self.original.shape
        for kind in KINDS:
            stack = getattr(self, kind)
            if stack.dtype != np.uint8 or stack.ndim != 5 or stack.shape[-1] != 3 or stack.shape != shape:
                raise GalleryError(
                    f"gallery: {kind} should be uint8 (S, T, H, W, 3) of one shape, got {stack.dtype} "
                    f"{stack.shape} beside an original of {shape}"
                )

    @property
    def num_samples(self) -> int:
        """S."""
        return len(self.original)

    @property
    def is_video(self) -> bool:
        """Whether samples have more than one frame."""
        return self.original.shape[1] > 1

    @property
    def is_tiny(self) -> bool:
        """Whether pixels are so few that a reader should see them as squares, not blurred."""
        return max(self.original.shape[2:4]) <= 96


def read_gallery(npz: bytes) -> Gallery:
    """Open the content of gallery.npz; raises GalleryError if it is something else."""
    try:
        with np.load(io.BytesIO(npz), allow_pickle=False) as arrays:
            return Gallery(**{kind: arrays[kind] for kind in KINDS})
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, GalleryError):
            raise
        raise GalleryError(f"gallery.npz cannot be read: {error}") from error


def strip_png(clip: np.ndarray) -> bytes:
    """One row of frames: an image of (T, H, W, 3) as it is, a clip as up to FRAMES_SHOWN of its frames."""
    side = STRIP_SIDE if len(clip) > 1 else IMAGE_SIDE
    return _png(_row([_shrunk(clip[frame], side) for frame in _shown_frames(len(clip))]))


def animation_webp(gallery: Gallery, sample: int) -> bytes | None:
    """The three clips of a sample playing side by side; None if it would be larger than ANIMATION_BYTES.

    Tiny clips keep every pixel where that fits, because a reader sees their pixels as squares.
    """
    clips = [getattr(gallery, kind)[sample] for kind in KINDS]
    frames = [
        Image.fromarray(_row([_shrunk(clip[frame], STRIP_SIDE) for clip in clips]))
        for frame in range(len(clips[0]))
    ]
    for lossless in [True, False] if gallery.is_tiny else [False]:
        file = io.BytesIO()
        frames[0].save(
            file,
            format="WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=_FRAME_MILLISECONDS,
            loop=0,
            lossless=lossless,
            quality=80,
        )
        if file.tell() <= ANIMATION_BYTES:
            return file.getvalue()
    return None


def sheet_png(gallery: Gallery, sample: int) -> bytes:
    """One sample at its full size: of an image the three pictures side by side, of a clip a row of frames
    for each, up to FRAMES_SHOWN of them."""
    clips = [getattr(gallery, kind)[sample] for kind in KINDS]
    if not gallery.is_video:
        return _png(_row([clip[0] for clip in clips]))
    rows = [_row([clip[frame] for frame in _shown_frames(len(clip))]) for clip in clips]
    gap = np.zeros((_GAP, *rows[0].shape[1:]), np.uint8)
    return _png(np.concatenate([rows[0], gap, rows[1], gap, rows[2]]))


def side_by_side(gallery: Gallery, sample: int) -> np.ndarray:
    """The three clips of a sample beside each other, on white: uint8 (T, H, 3 * W + 2 * gap, 3)."""
    clips = [getattr(gallery, kind)[sample] for kind in KINDS]
    gap = np.full((*clips[0].shape[:2], _GAP, 3), 255, np.uint8)
    return np.concatenate([clips[0], gap, clips[1], gap, clips[2]], axis=2)


def animation_gif(frames_THWC: np.ndarray) -> bytes:
    """Frames of uint8 RGB as a GIF that plays again and again; at most 256 colours in each frame."""
    frames = [Image.fromarray(frame) for frame in frames_THWC]
    file = io.BytesIO()
    frames[0].save(
        file, format="GIF", save_all=True, append_images=frames[1:], duration=_FRAME_MILLISECONDS, loop=0
    )
    return file.getvalue()


def _shown_frames(num_frames: int) -> list[int]:
    places = np.linspace(0, num_frames - 1, min(num_frames, FRAMES_SHOWN))
    return np.unique(places.round().astype(int)).tolist()


def _row(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size beside each other, with transparent gaps; (H, W, 4)."""
    height, width, _ = pictures[0].shape
    row = np.zeros((height, len(pictures) * (width + _GAP) - _GAP, 4), np.uint8)
    for place, picture in enumerate(pictures):
        left = place * (width + _GAP)
        row[:, left : left + width, :3] = picture
        row[:, left : left + width, 3] = 255
    return row


def _shrunk(picture: np.ndarray, side: int) -> np.ndarray:
    image = Image.fromarray(picture)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", optimize=True)
    return file.getvalue()
