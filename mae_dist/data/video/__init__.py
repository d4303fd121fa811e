"""Video files: the bytes of one as frames, and frames as the bytes of one; the rooms that know FFmpeg."""

from __future__ import annotations

from collections.abc import Callable

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.decoded import Decoded
from mae_dist.data.video.clip import Choose, open_clip, read_clip
from mae_dist.data.video.encode import Transcoded, encode_h264, transcode
from mae_dist.data.video.torchcodec import open_by_torchcodec, prepare_torchcodec

__all__ = [
    "VIDEO_DECODERS",
    "Transcoded",
    "encode_h264",
    "open_clip",
    "prepare_decoder",
    "read_clip",
    "transcode",
]

VIDEO_DECODERS: dict[str, Callable[[bytes, Choose, DecodeLimits | None], Decoded]] = {
    "pyav": open_clip,
    "torchcodec": open_by_torchcodec,
}
"""By the names of `data.decoder`: the frames that `choose` asks for, of a file's bytes."""


def prepare_decoder(name: str) -> None:
    """Load what decoding videos needs. Raises ValueError if it is not there."""
    if name == "torchcodec":
        prepare_torchcodec()
