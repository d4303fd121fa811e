"""The bytes of a video file as frames, and frames as the bytes of a video file.

Reading a clip:

    packets   read all of them, undecoded: their timestamps are the list of frames (headers are not trusted)
    choose    the caller says which frames it wants, given how many there are
    decode    from the last keyframe before the first wanted frame until the last wanted one

Where a file has no usable timestamps, or decoding from the middle does not give every wanted frame, it is
decoded and counted from its start instead. Decoding uses one thread: frame threads of FFmpeg can hang when a
decoder is closed early (PyAV #1861), and many decodes run side by side anyway.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import av
import av.container
import av.error
import numpy as np

from mae_dist.data.decoded import Decoded, Pixels
from mae_dist.data.limits import DecodeError, DecodeLimits

Choose = Callable[[int], np.ndarray]

# In these containers the timestamps of packets are in decoding order and say nothing about presentation.
_UNTIMED_FORMATS = {"avi"}
# Leaving out frames that no other frame refers to is exact for these codecs (for HEVC and AV1 it is not).
_SKIPPING_CODECS = {"h264"}
# Playlists and session descriptions are formats too: without this FFmpeg opens the files that one names, or
# listens on a network port.
_CLOSED = {"protocol_whitelist": "none"}


def open_clip(data: bytes, choose: Choose, limits: DecodeLimits | None = None) -> Decoded:
    """As `read_clip`, with the frames left as they are until a crop of them is asked for."""
    return Pixels(read_clip(data, choose, limits))


def read_clip(data: bytes, choose: Choose, limits: DecodeLimits | None = None) -> np.ndarray:
    """Decode the chosen frames of the first video stream: uint8 (T, H, W, 3) RGB, upright.

    `choose` is given the number of frames and returns the ids (T,) it wants, in any order and with repeats;
    it may be called twice and must answer the same number with the same ids. Raises DecodeError for a
    file that holds no video, goes beyond the limits, or is damaged between the keyframe before the first and
    the last wanted frame, so far as FFmpeg can notice. A transport stream that was cut off is only shorter.
    """
    limits = limits or DecodeLimits()
    if not data:
        raise DecodeError("the file is empty")
    deadline = time.thread_time() + limits.seconds
    try:
        video = _Video.scan(data, limits, deadline)
        clip = _decode_by_time(video, choose) if video.times is not None else None
        return _decode_by_count(data, video, choose) if clip is None else clip
    except av.error.FFmpegError as error:
        raise DecodeError(f"not a readable video: {error.strerror or error}") from error


def encode_h264(frames_THWC: np.ndarray, fps: int, *, keyframe_every: int = 12, quality: int = 18) -> bytes:
    """An MP4 file with one H.264 stream (4:2:0, one thread: the same bytes every time).

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
            # One thread and the fastest preset: x264's slower presets gave other bytes now and then, even
            # with one thread and equal input (seen with PyAV 18.1 on a busy machine).
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p", threads=1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


@dataclass(frozen=True, slots=True)
class _Video:
    """The undecoded packets of a video stream, in decoding order, and what it takes to decode them."""

    container: av.container.InputContainer
    stream: av.VideoStream
    packets: Sequence[av.Packet]
    times: np.ndarray | None
    """Presentation times of the frames, ascending; None where they cannot be relied on."""
    limits: DecodeLimits
    deadline: float

    @classmethod
    def scan(cls, data: bytes, limits: DecodeLimits, deadline: float) -> _Video:
        container = _open(data, limits)
        stream = container.streams.video[0]
        limits.check_pixels(stream.width, stream.height)
        packets: list[av.Packet] = []
        for packet in container.demux(stream):
            if packet.size:
                packets.append(packet)
            if len(packets) > limits.frames:
                raise DecodeError(f"more than {limits.frames:,} frames")
            _check_time(limits, deadline)
        if not packets:
            raise DecodeError("the video stream has no frames")
        _check_complete(data, container, stream, packets)
        return cls(container, stream, packets, _presentation_times(container, packets), limits, deadline)

    def decode(
        self, packets: Sequence[av.Packet], wanted_times: set[int] | None = None
    ) -> Iterator[av.VideoFrame]:
        """Frames of these packets in the order of presentation.

        With `wanted_times` frames at other times may be left out.
        """
        context = self.stream.codec_context
        skipping = wanted_times is not None and context.name in _SKIPPING_CODECS
        for packet in (*packets, None):
            _check_time(self.limits, self.deadline)
            if packet is not None and packet.is_corrupt:
                raise DecodeError("a packet of the video is incomplete")
            if skipping and packet is not None:
                context.skip_frame = "DEFAULT" if packet.pts in wanted_times else "NONREF"  # type: ignore[operator]
            yield from context.decode(packet)


def _open(data: bytes, limits: DecodeLimits) -> av.container.InputContainer:
    # `max_pixels` stops a decoder before it allocates what an absurd header asks for.
    options = _CLOSED | {"max_pixels": str(limits.pixels), "threads": "1"}
    container = av.open(io.BytesIO(data), "r", metadata_errors="replace", options=options)
    if not container.streams.video:
        raise DecodeError("the file has no video stream")
    context = container.streams.video[0].codec_context
    if context is None:
        raise DecodeError("the video is coded in a way that FFmpeg cannot decode")
    context.thread_count = 1
    context.thread_type = "NONE"
    context.options = {"max_pixels": str(limits.pixels)}
    return container


def _presentation_times(
    container: av.container.InputContainer, packets: Sequence[av.Packet]
) -> np.ndarray | None:
    times = [packet.pts for packet in packets if not packet.is_discard]
    if (
        container.format.name in _UNTIMED_FORMATS
        or not times
        or None in times
        or len(set(times)) != len(times)
    ):
        return None
    return np.sort(np.array(times, dtype=np.int64))


def _check_complete(
    data: bytes,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    packets: Sequence[av.Packet],
) -> None:
    """Raise DecodeError if the file ends long before its header says (MP4 notices by itself)."""
    if container.format.name == "avi" and len(packets) < 0.9 * stream.frames:
        raise DecodeError(f"cut short: the header promises {stream.frames} frames, {len(packets)} are there")
    if not container.format.name.startswith("matroska") or not container.duration:
        return
    promised = container.duration / av.time_base
    if _end_seconds(packets) < 0.9 * promised - 0.5:
        # The sound may be longer than the picture.
        with av.open(io.BytesIO(data), "r", metadata_errors="replace", options=_CLOSED) as again:
            end = _end_seconds(again.demux())
        if end < 0.9 * promised - 0.5:
            raise DecodeError(
                f"cut short: the header promises {promised:.1f} s, the data ends at {end:.1f} s"
            )


def _end_seconds(packets: Iterator[av.Packet] | Sequence[av.Packet]) -> float:
    return max(
        (float(p.pts * p.time_base) for p in packets if p.pts is not None and p.time_base), default=0.0
    )


def _decode_by_time(video: _Video, choose: Choose) -> np.ndarray | None:
    """The chosen frames, found by their timestamps; None where that does not give all of them."""
    assert video.times is not None
    ids = _checked(choose(len(video.times)), len(video.times))
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
    pixels: dict[int, np.ndarray] = {}
    last_time = None
    try:
        for frame in video.decode(video.packets[start:], wanted_times=set(remaining)):
            if frame.pts is None or (last_time is not None and frame.pts <= last_time):
                return None
            last_time = frame.pts
            if start_time is None or frame.pts >= start_time:
                _refuse_damaged(video, frame)
            if frame.pts in remaining:
                remaining.remove(frame.pts)
                pixels[frame.pts] = _to_rgb(frame, pixels, video.limits)
            if not remaining:
                return _stack([pixels[int(video.times[index])] for index in ids])
    except (av.error.FFmpegError, DecodeError):
        if start == 0:
            raise
    return None


def _decode_by_count(data: bytes, video: _Video, choose: Choose) -> np.ndarray:
    """The chosen frames, counted from the start of the file, which is decoded once more to count them."""
    fresh = _Video.scan(data, video.limits, video.deadline)
    num_frames = 0
    for frame in fresh.decode(fresh.packets):
        _refuse_damaged(fresh, frame)
        num_frames += 1
    if not num_frames:
        raise DecodeError("no frame of the video can be decoded")
    ids = _checked(choose(num_frames), num_frames)
    remaining = set(ids.tolist())
    pixels: dict[int, np.ndarray] = {}
    fresh = _Video.scan(data, video.limits, video.deadline)
    for index, frame in enumerate(fresh.decode(fresh.packets)):
        if index in remaining:
            remaining.remove(index)
            pixels[index] = _to_rgb(frame, pixels, video.limits)
        if not remaining:
            break
    return _stack([pixels[index] for index in ids])


def _checked(ids: np.ndarray, num_frames: int) -> np.ndarray:
    assert ids.min() >= 0, "choose() must stay within the video"
    assert ids.max() < num_frames, "choose() must stay within the video"
    return ids


def _refuse_damaged(video: _Video, frame: av.VideoFrame) -> None:
    """FFmpeg conceals damage with pixels of other frames and marks the frame; that is not the video."""
    if frame.is_corrupt:
        base = video.stream.time_base
        where = "" if frame.pts is None or base is None else f" at {float(frame.pts * base):.2f} s"
        raise DecodeError(f"the frame{where} is damaged")


def _to_rgb(frame: av.VideoFrame, earlier: dict[int, np.ndarray], limits: DecodeLimits) -> np.ndarray:
    """uint8 (H, W, 3), turned upright. FFmpeg converts with the matrix and range that the frame declares."""
    limits.check_pixels(frame.width, frame.height)
    if (len(earlier) + 1) * frame.width * frame.height > limits.clip_pixels:
        raise DecodeError(
            f"a clip of {frame.width}x{frame.height} frames exceeds {limits.clip_pixels:,} pixels"
        )
    pixels = frame.to_ndarray(format="rgb24", threads=1)
    if frame.rotation % 90 == 0:
        # `rotation` is the counter-clockwise angle by which a player turns the picture; so does rot90.
        pixels = np.rot90(pixels, frame.rotation // 90 % 4)
    return pixels


def _stack(frames: list[np.ndarray]) -> np.ndarray:
    shapes = {frame.shape for frame in frames}
    if len(shapes) > 1:
        raise DecodeError(f"the picture changes its size within the clip: {sorted(shapes)}")
    return np.stack(frames)


def _check_time(limits: DecodeLimits, deadline: float) -> None:
    if time.thread_time() > deadline:
        raise DecodeError(f"decoding took more than {limits.seconds:g} s of CPU time")
