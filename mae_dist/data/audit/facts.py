"""What one sample shows when it is opened, or decoded: found in the decoding process, which may be killed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.image import probe_image, read_image
from mae_dist.data.limits import DecodeError
from mae_dist.data.video.probe import probe_video
from mae_dist.data.views import Request

FACT_BYTES = 256
"""Of the array that the facts of one sample are written into."""
_WHOLE_SECONDS = 300.0
"""CPU time for all frames of a video, instead of the few seconds that one clip of it may take."""


class Facts(NamedTuple):
    """Of one sample that could be read."""

    codec: str
    """ "h264", "jpeg", ...; FFmpeg's name, or Pillow's in lower case."""
    width: int
    height: int
    """Pixels, as they are stored."""
    frames: int
    """1 for an image."""
    fps: float
    """Mean frames per second; nan for an image, and where the file does not tell."""
    is_timed: bool
    """False for a video without usable timestamps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FactSpec:
    """How far to look into samples."""

    decode: bool = False
    """False: an image's header, a video's packets. True: every pixel."""

    @property
    def limits(self) -> DecodeLimits:
        """Those of training, with more time where all frames of a video are decoded."""
        return DecodeLimits(seconds=_WHOLE_SECONDS) if self.decode else DecodeLimits()

    def prepare(self) -> None:
        """Load Pillow's readers of all formats; importing this file has loaded the rest."""
        Image.init()


def find_facts(request: Request, spec: FactSpec, written: np.ndarray) -> None:
    """Write the facts of a sample into `written`, uint8 (FACT_BYTES,); raises DecodeError."""
    try:
        text = json.dumps(_facts(request, spec)).encode()
    except (DecodeError, MemoryError):
        raise
    except Exception as error:
        # A mistake in a reader, which only this file has brought to light, must not end the audit of a
        # million others. In training it is an error.
        raise DecodeError(f"its reader failed with {type(error).__name__}: {error}") from error
    written[:] = 0
    written[: len(text)] = np.frombuffer(text, np.uint8)


def _facts(request: Request, spec: FactSpec) -> Facts:
    limits = spec.limits
    if request.media == "video":
        video = probe_video(request.data, limits, decode=spec.decode)
        return Facts(video.codec, video.width, video.height, video.frames, video.fps, video.is_timed)
    facts = Facts(*probe_image(request.data, limits), 1, math.nan, True)
    if spec.decode:
        read_image(request.data, limits)
    return facts


def read_facts(written: np.ndarray) -> Facts:
    """What `find_facts` has written."""
    return Facts(*json.loads(written.tobytes().rstrip(b"\0")))
