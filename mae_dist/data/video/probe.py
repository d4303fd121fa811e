"""What a video file is: codec, size, frames and rate, from its packets alone or from decoding all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import av.error

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.limits import DecodeError, check_pixels
from mae_dist.data.video.packets import PacketList


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """Of the first video stream of a file."""

    codec: str
    """FFmpeg's name of it: "h264", "vp9"."""
    width: int
    height: int
    """Pixels of a frame as it is stored; a player may turn it."""
    frames: int
    """That have a timestamp, that have a packet (where `is_timed` is False), or that were decoded."""
    fps: float
    """Frames per second on average, nan where the file does not tell."""
    is_timed: bool
    """Whether the file has usable timestamps; without them it has to be decoded from its start."""


def probe_video(data: bytes, limits: DecodeLimits | None = None, *, decode: bool = False) -> VideoFacts:
    """The facts of a video file; with `decode` every frame is decoded, counted and thrown away.

    Raises DecodeError for what `read_clip` refuses whichever frames are asked for; with `decode` also for a
    file of which it refuses some of the frames.
    """
    limits = limits or DecodeLimits()
    num_decoded = 0
    try:
        # Thorough, because the header of a stream (MPEG-TS, for one) may not even tell the size of a frame.
        video = PacketList.scan(data, limits, time.thread_time() + limits.seconds, thorough=True)
        if decode:
            for number in _decoded(video):
                num_decoded = number
    except av.error.FFmpegError as error:
        where = f" behind frame {num_decoded}" if num_decoded else ""
        raise DecodeError(f"not a readable video{where}: {error.strerror or error}") from error
    if decode and not num_decoded:
        raise DecodeError("no frame of the video can be decoded")
    num_stored = len(video.packets) if video.times is None else len(video.times)
    return VideoFacts(
        codec=video.stream.codec.canonical_name,
        width=video.stream.width,
        height=video.stream.height,
        frames=num_decoded or num_stored,
        fps=_fps(video),
        is_timed=video.times is not None,
    )


def _decoded(video: PacketList) -> Iterator[int]:
    """1, 2, 3, ... while frames are decoded; raises DecodeError for one that is damaged."""
    first = video.packets[0].pts
    for number, frame in enumerate(video.decode(video.packets), start=1):
        check_pixels(frame.width, frame.height, video.limits)
        # Frames that are shown before the first keyframe may refer to what was cut away before it.
        is_leading = first is not None and frame.pts is not None and frame.pts < first
        if frame.is_corrupt and not is_leading:
            raise DecodeError(f"frame {number - 1} is damaged")
        yield number


def _fps(video: PacketList) -> float:
    """From the timestamps where there are some, for headers are not to be trusted."""
    times, base = video.times, video.stream.time_base
    if times is not None and base is not None and len(times) > 1:
        return float((len(times) - 1) / ((times[-1] - times[0]) * base))
    rate = video.stream.average_rate or video.stream.guessed_rate
    return float(rate) if rate else float("nan")
