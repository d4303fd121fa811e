"""Frames as the bytes of a video file: drawn ones, and those of another file made quicker to read.

    packets -> frames -> scaled, turned upright, 8 bit 4:2:0 -> H.264 in MP4, with their own timestamps

Every encoding here uses one thread and gives the same bytes every time.
"""

from __future__ import annotations

import io
import math
import time
from dataclasses import dataclass
from fractions import Fraction

import av
import av.container
import av.error
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.limits import DecodeError, check_bytes, check_pixels
from mae_dist.data.video.packets import PacketList

_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
_RGB_MATRIX = 0
"""FFmpeg's name for pixels that are no YUV."""
_RATE_UNKNOWN = Fraction(25)
_ANY_TYPE = 0
# "fastdecode" leaves out CABAC and deblocking: a file of the Kinetics kind then decodes in half the time, at
# 12% more bytes and 0.3 dB less. With mbtree x264 gave other bytes now and then, even with one thread and
# equal input (seen with PyAV 18.1 on a busy machine).
_X264 = {"preset": "veryfast", "tune": "fastdecode", "bf": "0", "mbtree": "0"}


@dataclass(frozen=True, slots=True)
class Transcoded:
    """A video file that was written anew."""

    data: bytes
    frames: int
    fps: float
    """Mean frames per second; nan for a single frame."""


class _TimesError(Exception):
    """The timestamps of the frames turn out to be unusable; the frames can still be numbered."""


def encode_h264(frames_THWC: np.ndarray, fps: int, *, keyframe_every: int = 12, quality: int = 18) -> bytes:
    """An MP4 file with one H.264 stream (4:2:0).

    frames_THWC is uint8 RGB with even height and width; `quality` is x264's constant rate factor, 0 best.
    """
    _, height, width, _ = frames_THWC.shape
    if height % 2 or width % 2:
        raise ValueError(f"4:2:0 video needs an even height and width, got {height}x{width}")
    options = {"preset": "ultrafast", "crf": str(quality), "g": str(keyframe_every)}
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for pixels in frames_THWC:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p", threads=1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def transcode(
    data: bytes,
    limits: DecodeLimits | None = None,
    *,
    short_side: int,
    keyframe_every: int = 12,
    quality: int = 20,
) -> Transcoded:
    """The first video stream of a file as an MP4 of which any clip is decoded quickly; the sound is dropped.

    H.264 with a keyframe at least every `keyframe_every` frames, without B-frames, CABAC and deblocking, at
    x264's constant rate factor `quality`. The picture is turned upright and scaled until its short side has
    `short_side` (even) pixels, if it has more; odd sides lose a pixel. Frames keep their times, from 0 on;
    matrix and range of the colours stay what they were. Raises DecodeError as `read_clip` does, for damage
    anywhere in the file.
    """
    limits = limits or DecodeLimits()
    check_bytes(len(data), limits)
    deadline = time.thread_time() + limits.seconds
    try:
        video = PacketList.scan(data, limits, deadline, thorough=True)
        if video.times is not None:
            try:
                return _rewrite(video, short_side, keyframe_every, quality, numbered=False)
            except _TimesError:
                video = PacketList.scan(data, limits, deadline, thorough=True)
        return _rewrite(video, short_side, keyframe_every, quality, numbered=True)
    except av.error.FFmpegError as error:
        raise DecodeError(f"not a readable video: {error.strerror or error}") from error


def _rewrite(
    video: PacketList, short_side: int, keyframe_every: int, quality: int, *, numbered: bool
) -> Transcoded:
    """All frames of the video; `numbered`: one after the other at the mean rate instead of at their times."""
    rate = _rate(video)
    base = video.stream.time_base
    if numbered or base is None:
        base = 1 / rate
    start = video.packets[0].pts
    file, times = io.BytesIO(), []
    size = stream = None
    with av.open(file, "w", format="mp4") as container:
        for frame in video.decode(video.packets):
            time_of_frame = len(times) if numbered else frame.pts
            if not numbered and start is not None and frame.pts is not None and frame.pts < start:
                continue  # shown before the first keyframe, and so without what it refers to
            if time_of_frame is None or (times and time_of_frame <= times[-1]):
                raise _TimesError
            if frame.is_corrupt:
                raise DecodeError(f"the frame at {float(time_of_frame * base):.2f} s is damaged")
            check_pixels(frame.width, frame.height, video.limits)
            if size not in (None, (frame.width, frame.height)):
                raise DecodeError("the picture changes its size within the video")
            size = frame.width, frame.height
            picture = _picture(frame, short_side)
            if stream is None:
                options = _X264 | {"g": str(keyframe_every), "crf": str(quality)}
                stream = _add_stream(container, picture, rate, base, options)
            times.append(time_of_frame)
            picture.pts, picture.time_base = time_of_frame - times[0], base
            # A decoded frame says what it was; left standing, x264 would make it that again.
            picture.pict_type = _ANY_TYPE
            container.mux(stream.encode(picture))
        if stream is None:
            raise DecodeError("no frame of the video can be decoded")
        container.mux(stream.encode())
    seconds = float((times[-1] - times[0]) * base)
    return Transcoded(file.getvalue(), len(times), (len(times) - 1) / seconds if seconds else float("nan"))


def _rate(video: PacketList) -> Fraction:
    stream = video.stream
    return stream.average_rate or stream.guessed_rate or _RATE_UNKNOWN


def _add_stream(
    container: av.container.OutputContainer,
    picture: av.VideoFrame,
    rate: Fraction,
    base: Fraction,
    options: dict[str, str],
) -> av.VideoStream:
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
    context = stream.codec_context
    context.thread_count = 1
    context.time_base = base
    context.colorspace, context.color_range = picture.colorspace, picture.color_range
    context.color_primaries, context.color_trc = picture.color_primaries, picture.color_trc
    return stream


def _picture(frame: av.VideoFrame, short_side: int) -> av.VideoFrame:
    """The frame as it will be encoded: yuv420p, scaled, upright."""
    scale = min(1.0, short_side / min(frame.width, frame.height))
    width, height = (max(2, 2 * math.ceil(side * scale / 2 - 0.5)) for side in (frame.width, frame.height))
    is_rgb = frame.colorspace == _RGB_MATRIX and not frame.format.name.startswith(("yuv", "gray", "nv"))
    picture = frame.reformat(
        width,
        height,
        "yuv420p",
        interpolation=_SCALING,
        dst_colorspace=Colorspace.ITU709 if is_rgb else None,
        dst_color_range=ColorRange.MPEG if is_rgb else None,
        threads=1,
    )
    turns = frame.rotation // 90 % 4 if frame.rotation % 90 == 0 else 0
    return _turned(picture, turns) if turns else picture


def _turned(picture: av.VideoFrame, turns: int) -> av.VideoFrame:
    """A yuv420p picture turned counter-clockwise by quarters."""
    planes = picture.to_ndarray().astype(np.uint8, copy=False)
    split = picture.height * picture.width
    luma = planes[: picture.height]
    colours = planes.reshape(-1)[split:].reshape(2, picture.height // 2, picture.width // 2)
    turned = np.concatenate([np.rot90(luma, turns).ravel(), np.rot90(colours, turns, axes=(1, 2)).ravel()])
    width, height = (picture.height, picture.width) if turns % 2 else (picture.width, picture.height)
    result = av.VideoFrame.from_ndarray(turned.reshape(height * 3 // 2, width), format="yuv420p")
    result.colorspace, result.color_range = picture.colorspace, picture.color_range
    result.color_primaries, result.color_trc = picture.color_primaries, picture.color_trc
    return result
