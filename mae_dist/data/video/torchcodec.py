"""The second video decoder: torchcodec, an extra that needs FFmpeg's shared libraries.

It makes RGB of whole frames and decodes every frame on the way to a wanted one, which takes longer than our
own way; it is there to compare with, and for those who have it tuned for their machines.
"""

from __future__ import annotations

import time
from typing import Any

import av.error
import numpy as np

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.decoded import Decoded, Pixels
from mae_dist.data.limits import DecodeError
from mae_dist.data.video.clip import Choose, check_clip, shown_seconds
from mae_dist.data.video.packets import PacketList

# Seeking in these lands behind the frames that were asked for, and torchcodec 0.17 returns others in silence.
_INEXACT_FORMATS = {"mpegts", "mpeg"}


def prepare_torchcodec() -> None:
    """Load the library. Raises ValueError if it, or the FFmpeg it needs, is not there."""
    try:
        _video_decoder()
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            "data.decoder torchcodec cannot be loaded; it needs the extra mae_dist[torchcodec] and the "
            f"shared libraries of FFmpeg 4 to 8 ({reason}). pyav needs neither"
        ) from error


def open_by_torchcodec(data: bytes, choose: Choose, limits: DecodeLimits | None = None) -> Decoded:
    """As `open_clip`, with the same pixels, but for colours of frames that are not 8 bit or have an odd side.

    Refuses also files whose frames have no timestamps, and transport streams.
    """
    limits = limits or DecodeLimits()
    try:
        video = PacketList.scan(data, limits, time.thread_time() + limits.seconds)
    except av.error.FFmpegError as error:
        raise DecodeError(f"not a readable video: {error.strerror or error}") from error
    if video.times is None:
        raise DecodeError("the frames have no timestamps, by which torchcodec finds them")
    if video.container.format.name in _INEXACT_FORMATS:
        raise DecodeError("torchcodec does not find the frames of a transport stream exactly")
    ids = choose(shown_seconds(video))
    wanted, places = np.unique(ids, return_inverse=True)
    check_clip(len(wanted), video.stream.width, video.stream.height, limits)
    try:
        decoder = _video_decoder()(data, dimension_order="NHWC", num_ffmpeg_threads=1)
        frames = decoder.get_frames_at(wanted.tolist()).data.numpy()
    except (RuntimeError, ValueError, IndexError) as error:
        raise DecodeError(f"not a readable video: {str(error).strip().partition(chr(10))[0]}") from error
    return Pixels(frames[places])


def _video_decoder() -> Any:
    # Imported here: it is an extra, and brings torch along.
    from torchcodec import decoders

    return decoders.VideoDecoder  # pyright: ignore[reportPrivateImportUsage]
