"""One encoded sample as a smaller one, and the process that does it, which a codec may hang or crash.

The process is the decoder's child. A file in memory that both know brings the result back, because nobody
can say beforehand how large it will be.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

import numpy as np
from PIL import Image

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.arrays import is_array
from mae_dist.data.decoder import Decoder
from mae_dist.data.image import read_image
from mae_dist.data.limits import check_bytes
from mae_dist.data.prepare.settings import Settings
from mae_dist.data.video import transcode
from mae_dist.data.views import Request

_FACTS = struct.Struct("=qqd")
"""Bytes of the result, -1 where the original is kept; frames; frames per second."""
_LARGEST_JPEG_SIDE = 65_500


class Recoded(NamedTuple):
    """A sample as it will be stored."""

    data: bytes
    frames: int = -1
    """-1 for images, as in catalogs."""
    fps: float = float("nan")


Recode = Callable[[bytes], Recoded]
"""Encoded bytes to those that are stored; raises DecodeError for a sample that cannot be used."""


def recode(data: bytes, settings: Settings) -> Recoded:
    """The sample with the short side that is wanted. Raises DecodeError.

    An image that is not larger is decoded, to see that it can be, and kept byte for byte. A video is always
    written anew: what makes it quick to decode is how it is coded. Images equal Pillow's bicubic `resize`
    up to JPEG's loss.
    """
    limits = settings.limits
    check_bytes(len(data), limits)
    if settings.media == "video":
        assert settings.keyframe_every is not None, "Settings.of sets it for videos"
        made = transcode(
            data,
            limits,
            short_side=settings.short_side,
            keyframe_every=settings.keyframe_every,
            quality=settings.quality,
        )
        return Recoded(made.data, made.frames, made.fps)
    return Recoded(_shrunk(data, limits, settings) or data)


def _shrunk(data: bytes, limits: DecodeLimits, settings: Settings) -> bytes | None:
    """A JPEG of the image, or None for an array and where it is small enough already."""
    pixels = read_image(data, limits)[0]
    if is_array(data):
        return None
    image = Image.fromarray(pixels)
    scale = settings.short_side / min(image.size)
    width, height = (max(1, math.floor(side * scale + 0.5)) for side in image.size)
    if scale >= 1 or max(width, height) > _LARGEST_JPEG_SIDE:
        return None
    file = io.BytesIO()
    small = image.resize((width, height), Image.Resampling.BICUBIC)
    small.save(file, "JPEG", quality=settings.quality, subsampling="4:2:0")
    return file.getvalue()


@dataclass(frozen=True)
class RecodeSpec:
    """What the child is told once; see `decoder_child.Spec`."""

    settings: Settings
    file_name: str
    """Where the result goes."""

    @property
    def limits(self) -> DecodeLimits:
        """What recoding one sample may cost."""
        return self.settings.limits

    def prepare(self) -> None:
        """All that is needed comes with this module."""


class Recoder:
    """`recode` in a process that costs one sample when it hangs, crashes or takes too much; Linux only."""

    def __init__(self, settings: Settings) -> None:
        self._file = os.memfd_create("recoded")
        self._spec = RecodeSpec(settings, f"/proc/{os.getpid()}/fd/{self._file}")
        self._decoder = Decoder(_recode_into)

    def __enter__(self) -> Recoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._decoder.close()
        os.close(self._file)

    def __call__(self, data: bytes) -> Recoded:
        """As `recode`; raises DecoderError if no sample can be recoded here."""
        facts = np.zeros((1, _FACTS.size), dtype=np.uint8)
        request = Request(data, self._spec.settings.media, 0, (0,))
        [error] = self._decoder.decode([request], self._spec, facts)
        if error is not None:
            raise error
        length, frames, fps = _FACTS.unpack(facts.tobytes())
        if length < 0:
            return Recoded(data, frames, fps)
        with open(self._file, "rb", closefd=False) as file:
            file.seek(0)
            return Recoded(file.read(length), frames, fps)


def _recode_into(request: Request, spec: RecodeSpec, facts: np.ndarray) -> None:
    """What the child does: the result into the file, how it is into `facts`."""
    made = recode(request.data, spec.settings)
    is_kept = made.data is request.data
    if not is_kept:
        with open(spec.file_name, "wb") as file:
            file.write(made.data)
    length = -1 if is_kept else len(made.data)
    facts[:] = np.frombuffer(_FACTS.pack(length, made.frames, made.fps), np.uint8)
