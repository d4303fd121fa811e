"""The bytes of a video file as the frames of a clip.

    packets   read all of them, undecoded: their timestamps are the list of frames (headers are not trusted)
    choose    the caller says which frames it wants, given how many there are
    decode    from the last keyframe before the first wanted frame until the last wanted one

Where a file has no usable timestamps, or decoding from the middle does not give every wanted frame, it is
decoded and counted from its start instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import av
import av.container
import av.error
import numpy as np

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.decoded import Decoded
from mae_dist.data.limits import DecodeError, check_pixels
from mae_dist.data.transforms import Box
from mae_dist.data.video.packets import PacketList
from mae_dist.data.video.pictures import Pictures

Choose = Callable[[np.ndarray], np.ndarray]


def read_clip(data: bytes, choose: Choose, limits: DecodeLimits | None = None) -> np.ndarray:
    """As `open_clip`, with all pixels: uint8 (T, H, W, 3) RGB, upright."""
    clip = open_clip(data, choose, limits)
    return clip.crop(Box(0, 0, clip.height, clip.width), clip.height, clip.width, "bicubic")


def open_clip(data: bytes, choose: Choose, limits: DecodeLimits | None = None) -> Decoded:
    """Decode the chosen frames of the first video stream, which become RGB where they are cropped.

    `choose` is given the second at which each frame is shown, (N,) float64 ascending from 0 (nan where the
    file says nothing about time), and returns the ids (T,) of the frames it wants, in any order and with
    repeats; it may be called twice and must answer the same seconds with the same ids. Raises DecodeError for
    a file that holds no video, goes beyond the limits, or is damaged between the keyframe before the first
    and the last wanted frame, so far as FFmpeg can notice. A transport stream that was cut off is only
    shorter.
    """
    limits = limits or DecodeLimits()
    deadline = time.thread_time() + limits.seconds
    try:
        video = PacketList.scan(data, limits, deadline)
        clip = _decode_by_time(video, choose) if video.times is not None else None
        return _decode_by_count(data, video, choose) if clip is None else clip
    except av.error.FFmpegError as error:
        raise DecodeError(f"not a readable video: {error.strerror or error}") from error


def _decode_by_time(video: PacketList, choose: Choose) -> Pictures | None:
    """The chosen frames, found by their timestamps; None where that does not give all of them."""
    assert video.times is not None
    ids = _checked(choose(shown_seconds(video)), len(video.times))
    wanted = video.times[np.unique(ids)]
    keyframes = [
        index
        for index, packet in enumerate(video.packets)
        if packet.is_keyframe and packet.pts is not None and packet.pts <= wanted[0]
    ]
    # Frames that are shown before a keyframe but stored behind it may refer to frames before it; those that
    # are shown after it never do.
    start = keyframes[-1] if keyframes else 0
    start_time = video.packets[start].pts
    remaining = set(wanted.tolist())
    frames: dict[int, av.VideoFrame] = {}
    last_time = None
    try:
        packets = video.until(remaining, start)
        for frame in video.decode(packets, wanted_times=set(remaining)):
            if frame.pts is None or (last_time is not None and frame.pts <= last_time):
                return None
            last_time = frame.pts
            if start_time is None or frame.pts >= start_time:
                _refuse_damaged(video, frame)
            if frame.pts in remaining:
                remaining.remove(frame.pts)
                _keep(frame, frame.pts, frames, video.limits)
            if not remaining:
                return _pictures(frames, video.times[ids])
    except (av.error.FFmpegError, DecodeError):
        if start == 0:
            raise
    return None


def _decode_by_count(data: bytes, video: PacketList, choose: Choose) -> Pictures:
    """The chosen frames, counted from the start of the file, which is decoded once more to count them."""
    fresh = PacketList.scan(data, video.limits, video.deadline, thorough=True)
    num_frames = 0
    for frame in fresh.decode(fresh.packets):
        _refuse_damaged(fresh, frame)
        num_frames += 1
    if not num_frames:
        raise DecodeError("no frame of the video can be decoded")
    rate = fresh.stream.average_rate or fresh.stream.guessed_rate
    seconds = np.arange(num_frames) / float(rate) if rate else np.full(num_frames, np.nan)
    ids = _checked(choose(seconds), num_frames)
    remaining = set(ids.tolist())
    frames: dict[int, av.VideoFrame] = {}
    fresh = PacketList.scan(data, video.limits, video.deadline, thorough=True)
    for index, frame in enumerate(fresh.decode(fresh.packets)):
        if index in remaining:
            remaining.remove(index)
            _keep(frame, index, frames, video.limits)
        if not remaining:
            break
    return _pictures(frames, ids)


def shown_seconds(video: PacketList) -> np.ndarray:
    """When each frame is shown, for `choose`; for a video whose frames have times."""
    assert video.times is not None
    base = video.stream.time_base
    return (video.times - video.times[0]) * (float(base) if base else np.nan)


def _checked(ids: np.ndarray, num_frames: int) -> np.ndarray:
    assert ids.min() >= 0, "choose() must stay within the video"
    assert ids.max() < num_frames, "choose() must stay within the video"
    return ids


def _refuse_damaged(video: PacketList, frame: av.VideoFrame) -> None:
    """FFmpeg conceals damage with pixels of other frames and marks the frame; that is not the video."""
    if frame.is_corrupt:
        base = video.stream.time_base
        where = "" if frame.pts is None or base is None else f" at {float(frame.pts * base):.2f} s"
        raise DecodeError(f"the frame{where} is damaged")


def _keep(frame: av.VideoFrame, key: int, frames: dict[int, av.VideoFrame], limits: DecodeLimits) -> None:
    check_clip(len(frames) + 1, frame.width, frame.height, limits)
    frames[key] = frame


def check_clip(num_frames: int, width: int, height: int, limits: DecodeLimits) -> None:
    """Raise DecodeError for frames, or a number of them, that are larger than allowed."""
    check_pixels(width, height, limits)
    if num_frames * width * height > limits.clip_pixels:
        raise DecodeError(f"a clip of {width}x{height} frames exceeds {limits.clip_pixels:,} pixels")


def _pictures(frames: dict[int, av.VideoFrame], keys: np.ndarray) -> Pictures:
    kinds = {(frame.width, frame.height, frame.format.name) for frame in frames.values()}
    if len(kinds) > 1:
        kinds_in_words = ", ".join(f"{width}x{height} {name}" for width, height, name in sorted(kinds))
        raise DecodeError(f"the picture changes its size or format within the clip: {kinds_in_words}")
    places = {key: place for place, key in enumerate(frames)}
    return Pictures([*frames.values()], np.array([places[key] for key in keys.tolist()]))
