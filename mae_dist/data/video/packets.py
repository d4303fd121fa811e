"""A video file as its undecoded packets, in decoding order, and what it takes to decode some of them.

Decoding uses one thread: frame threads of FFmpeg can hang when a decoder is closed early (PyAV #1861), and
many decodes run side by side anyway.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import av
import av.container
import av.error
import numpy as np

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.limits import DecodeError, check_pixels

# In these containers the timestamps of packets are in decoding order and say nothing about presentation.
_UNTIMED_FORMATS = {"avi"}
# Leaving out frames that no other frame refers to is exact for these codecs (for HEVC and AV1 it is not).
_SKIPPING_CODECS = {"h264"}
# Here a packet is a whole frame; elsewhere the second field of a frame may follow in the next one.
_FRAMED_FORMATS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
_PACKETS_AT_ONCE = 512
# Playlists and session descriptions are formats too: without this FFmpeg opens the files that one names, or
# listens on a network port.
_CLOSED = {"protocol_whitelist": "none"}


@dataclass(frozen=True, slots=True)
class PacketList:
    """The undecoded packets of a video stream, in decoding order, and what it takes to decode them."""

    container: av.container.InputContainer
    stream: av.VideoStream
    packets: Sequence[av.Packet]
    times: np.ndarray | None
    """Presentation times of the frames, ascending; None where they cannot be relied on."""
    limits: DecodeLimits
    deadline: float

    @classmethod
    def scan(
        cls, data: bytes, limits: DecodeLimits, deadline: float, *, thorough: bool = False
    ) -> PacketList:
        """Read all packets; `deadline` in seconds of `time.thread_time`. Raises DecodeError, FFmpegError.

        Unless `thorough`, no frame is decoded to find out what the stream's header does not say. The header
        is enough but for the order in which some encoders' frames come out, which shows when they do.
        """
        if not data:
            raise DecodeError("the file is empty")
        container = _open(data, limits, thorough=thorough)
        stream = container.streams.video[0]
        check_pixels(stream.width, stream.height, limits)
        packets: list[av.Packet] = []
        demuxed = container.demux(stream)
        while some := [*islice(demuxed, _PACKETS_AT_ONCE)]:
            packets += [packet for packet in some if packet.size]
            if len(packets) > limits.frames:
                raise DecodeError(f"more than {limits.frames:,} frames")
            _check_time(limits, deadline)
        if not packets:
            raise DecodeError("the video stream has no frames")
        _check_complete(data, container, stream, packets)
        return cls(container, stream, packets, _presentation_times(container, packets), limits, deadline)

    def until(self, wanted_times: set[int], start: int) -> Sequence[av.Packet]:
        """The packets from number `start` on that it takes to decode the frames shown at these times.

        A decoder gives out frames late; at the end of what it is given, it gives all that it has.
        """
        if self.container.format.name not in _FRAMED_FORMATS:
            return self.packets[start:]
        last = max(n for n, packet in enumerate(self.packets) if packet.pts in wanted_times)
        return self.packets[start : last + 1]

    def decode(
        self, packets: Sequence[av.Packet], wanted_times: set[int] | None = None
    ) -> Iterator[av.VideoFrame]:
        """Frames of these packets in the order of presentation.

        With `wanted_times` frames at other times may be left out.
        """
        context = self.stream.codec_context
        wanted = wanted_times if context.name in _SKIPPING_CODECS else None
        skips = None
        for packet in packets:
            _check_time(self.limits, self.deadline)
            if packet.is_corrupt:
                raise DecodeError("a packet of the video is incomplete")
            if wanted is not None and skips != (packet.pts not in wanted):
                skips = not skips
                context.skip_frame = "NONREF" if skips else "DEFAULT"
            yield from context.decode(packet)
        yield from context.decode(None)


def _open(data: bytes, limits: DecodeLimits, *, thorough: bool) -> av.container.InputContainer:
    # `max_pixels` stops a decoder before it allocates what an absurd header asks for.
    options = _CLOSED | {"max_pixels": str(limits.pixels), "threads": "1"}
    if not thorough:
        options["skip_frame"] = "all"
    container = None
    if data[4:8] == b"ftyp" and not thorough:
        container = _open_mp4(data, options)
    if container is None:
        container = _container(data, options)
    if not container.streams.video:
        raise DecodeError("the file has no video stream")
    context = container.streams.video[0].codec_context
    if context is None:
        raise DecodeError("the video is coded in a way that FFmpeg cannot decode")
    context.thread_count = 1
    context.thread_type = "NONE"
    context.options = {"max_pixels": str(limits.pixels)}
    return container


def _open_mp4(data: bytes, options: dict[str, str]) -> av.container.InputContainer | None:
    """An MP4 has all that is asked for in its header; None where this one has not."""
    try:
        container = _container(data, options | {"probesize": "32"})  # the least that FFmpeg accepts
    except av.error.FFmpegError:
        return None
    known = all(stream.codec_context is None or stream.width for stream in container.streams.video)
    return container if known else None


def _container(data: bytes, options: dict[str, str]) -> av.container.InputContainer:
    return av.open(io.BytesIO(data), "r", metadata_errors="replace", options=options)


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
        with _container(data, _CLOSED) as again:
            end = _end_seconds(again.demux())
        if end < 0.9 * promised - 0.5:
            raise DecodeError(
                f"cut short: the header promises {promised:.1f} s, the data ends at {end:.1f} s"
            )


def _end_seconds(packets: Iterator[av.Packet] | Sequence[av.Packet]) -> float:
    return max(
        (float(p.pts * p.time_base) for p in packets if p.pts is not None and p.time_base), default=0.0
    )


def _check_time(limits: DecodeLimits, deadline: float) -> None:
    if time.thread_time() > deadline:
        raise DecodeError(f"decoding took more than {limits.seconds:g} s of CPU time")
