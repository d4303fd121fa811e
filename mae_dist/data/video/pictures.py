"""Decoded frames in the decoder's own pixel format, of which a crop becomes RGB.

    frames as decoded -> the region around the box -> RGB -> the box, turned upright -> resampled

Turning a frame into RGB takes time in proportion to its area, and most crops leave half of it out. Which
region is converted never shows in the pixels: FFmpeg would give the same for the whole frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import VideoReformatter

from mae_dist.data.transforms import Box, crop_resize

# Of these FFmpeg makes RGB block by block of 2x2 pixels.
_BLOCKWISE = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p"}
_BLOCK = 2
# Around a box in any other format: colours are interpolated between neighbours, and what FFmpeg dithers with
# repeats within this many pixels.
_MARGIN = 16
_CLOCK = Fraction(1, 1000)


class Pictures:
    """The frames of one clip; see Decoded."""

    def __init__(self, frames: Sequence[av.VideoFrame], order: np.ndarray) -> None:
        """`frames` are of one size and format; `order` (T,) says which of them each of the clip's is."""
        self._frames = frames
        self._order = order
        self._is_in_order = np.array_equal(order, np.arange(len(frames)))
        # The counter-clockwise angle by which a player turns the picture, in quarters; so does rot90.
        self._turns = frames[0].rotation // 90 % 4 if frames[0].rotation % 90 == 0 else 0
        self._converted: tuple[Box, np.ndarray] | None = None

    @property
    def height(self) -> int:
        """See Decoded."""
        return self._frames[0].width if self._turns % 2 else self._frames[0].height

    @property
    def width(self) -> int:
        """See Decoded."""
        return self._frames[0].height if self._turns % 2 else self._frames[0].width

    def crop(self, box: Box, height: int, width: int, interpolation: str) -> np.ndarray:
        """See Decoded; equals `crop_resize` of the whole frames as FFmpeg converts them to RGB."""
        stored = self._stored(box)
        region, pixels = self._rgb_around(stored)
        top, left = stored.top - region.top, stored.left - region.left
        inside = pixels[:, top : top + stored.height, left : left + stored.width]
        upright = np.rot90(inside, self._turns, axes=(1, 2))
        whole = Box(0, 0, box.height, box.width)
        resized = crop_resize(upright, whole, height, width, interpolation)
        return resized if self._is_in_order else resized[self._order]

    def _stored(self, box: Box) -> Box:
        """The same pixels, as they lie in the file before the picture is turned."""
        match self._turns:
            case 0:
                return box
            case 1:
                return Box(box.left, self.height - box.top - box.height, box.width, box.height)
            case 2:
                return Box(
                    self.height - box.top - box.height,
                    self.width - box.left - box.width,
                    box.height,
                    box.width,
                )
            case _:
                return Box(self.width - box.left - box.width, box.top, box.width, box.height)

    def _rgb_around(self, box: Box) -> tuple[Box, np.ndarray]:
        """A region that holds the box, and its pixels in every frame: uint8 (frames, h, w, 3).

        The first crop converts what it needs; if a second one needs more, there may be many, and all is
        converted.
        """
        if self._converted is not None and _holds(self._converted[0], box):
            return self._converted
        frame = self._frames[0]
        region = Box(0, 0, frame.height, frame.width)
        # With an odd side FFmpeg stretches the colours over the whole frame, so that a part would differ.
        if self._converted is None and frame.height % 2 == frame.width % 2 == 0:
            region = _region(box, region, blockwise=frame.format.name in _BLOCKWISE)
        self._converted = region, _to_rgb(_cut(self._frames, region))
        return self._converted


def _region(box: Box, whole: Box, *, blockwise: bool) -> Box:
    """The smallest region around the box that has its colours from nowhere else."""
    unit, margin = (_BLOCK, 0) if blockwise else (_MARGIN, _MARGIN)
    top, left = (max(0, (start - margin) // unit * unit) for start in (box.top, box.left))
    bottom = min(whole.height, -(-(box.top + box.height + margin) // unit) * unit)
    right = min(whole.width, -(-(box.left + box.width + margin) // unit) * unit)
    return Box(top, left, bottom - top, right - left)


def _cut(frames: Sequence[av.VideoFrame], region: Box) -> Sequence[av.VideoFrame]:
    """The region of every frame, still in its format and without a copy."""
    first = frames[0]
    if region == (0, 0, first.height, first.width):
        return frames
    graph = Graph()
    graph.threads = 1  # else each graph starts as many as the machine has CPUs
    # A frame that the decoder gave when it was flushed has no clock; a crop needs none, a graph does.
    source = graph.add_buffer(
        width=first.width, height=first.height, format=first.format, time_base=first.time_base or _CLOCK
    )
    crop = graph.add("crop", f"{region.width}:{region.height}:{region.left}:{region.top}:exact=1")
    sink = graph.add("buffersink")
    source.link_to(crop)
    crop.link_to(sink)
    graph.configure()
    parts = []
    for frame in frames:
        graph.push(frame)
        part = graph.pull()
        assert isinstance(part, av.VideoFrame)
        parts.append(part)
    return parts


def _to_rgb(frames: Sequence[av.VideoFrame]) -> np.ndarray:
    """uint8 (frames, H, W, 3), converted with the matrix and range that each frame declares."""
    height, width = frames[0].height, frames[0].width
    pixels = np.empty((len(frames), height, width, 3), np.uint8)
    reformatter = VideoReformatter()
    for target, frame in zip(pixels, frames, strict=True):
        [plane] = reformatter.reformat(frame, format="rgb24", threads=1).planes
        # Copied from the plane itself: `to_ndarray` would make another copy on the way.
        rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)  # pyright: ignore[reportCallIssue, reportArgumentType]
        target[:] = rows[:, : 3 * width].reshape(height, width, 3)
    return pixels


def _holds(region: Box, box: Box) -> bool:
    return (
        region.top <= box.top
        and region.left <= box.left
        and box.top + box.height <= region.top + region.height
        and box.left + box.width <= region.left + region.width
    )
