"""Decode functions that go wrong in every way; importable, because the decoding process imports them."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import numpy as np

from mae_dist.data.limits import DecodeError
from mae_dist.data.views import Request, ViewSpec, decode_views


def misbehave(request: Request, spec: ViewSpec, views_KTHWC: np.ndarray) -> None:
    """What the bytes say: "pixels 7", or one of the mishaps below."""
    what, _, argument = request.data.decode().partition(" ")
    match what:
        case "pixels":
            views_KTHWC[:] = int(argument)
        case "sleep":
            time.sleep(1e6)
        case "burn":
            # One call that never returns nor lets another Python thread run.
            re.match(r"(a+)+$", "a" * 64 + "b")
        case "crash":
            os.abort()
        case "crash-once":
            if not Path(argument).exists():
                Path(argument).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            views_KTHWC[:] = 9
        case "grow":
            pieces = []
            while True:
                pieces.append(np.ones(1 << 20))
        case "refuse":
            raise DecodeError(argument)
        case "bug":
            raise KeyError(argument)


def hang_at_a_marked_file(request: Request, spec: ViewSpec, views_KTHWC: np.ndarray) -> None:
    """Decode as usual, except for a file that holds the word "hang"."""
    if request.data == b"hang":
        time.sleep(1e6)
    decode_views(request, spec, views_KTHWC)
