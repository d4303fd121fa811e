"""Which frames of a video make up a clip.

    dense      fxxxfxxxfxxx----------   neighbours `frame_stride` frames or 1/`sample_fps` seconds apart
    uniform    -f----f------f---f-----  one out of each of `frames` equal parts of the video

In training the clip is drawn; in a test `clips` of them are spread over the video. A dense clip of a keyframe
is the one with the keyframe in its middle. Letters: N frames of the video, T frames of the clip.
"""

from __future__ import annotations

import numpy as np

from mae_dist.config.schema import InputConfig
from mae_dist.data.limits import DecodeError

# Times in a file are rounded to its clock; a frame that is late by less is there.
_CLOCK_SECONDS = 1e-4
# The last frame of a video stays on the screen for a while, which its time does not tell.
_LAST_FRAME_SECONDS = 1.0


def clip_ids(
    seconds_N: np.ndarray,
    size: InputConfig,
    rng: np.random.Generator | None,
    *,
    clip: int = 0,
    clips: int = 1,
    around: float | None = None,
) -> np.ndarray:
    """Ids (T,) int64 of the frames of one clip, T = size.frames; `seconds_N` says when each is shown.

    With `rng` the clip is drawn, without it is number `clip` of `clips`. A video that is too short is read
    from its start, and its last frame is repeated. Dense clips `around` a second have no other place. Raises
    DecodeError if `size.sample_fps` or `around` is set and the times are unknown (nan), or end before it.
    """
    num_frames = len(seconds_N)
    if size.sampling == "uniform":
        return uniform_ids(num_frames, size.frames, rng, clip=clip, clips=clips)
    if around is not None:
        return keyframe_ids(seconds_N, size, around)
    # The first window of several begins at the start of the video, the last one ends at its end.
    place = 0.5 if clips == 1 else clip / (clips - 1)
    if size.sample_fps is None:
        return frame_ids(num_frames, size.frames, size.frame_stride, rng, place=place)
    return timed_ids(seconds_N, size.frames, size.sample_fps, rng, place=place)


def frame_ids(
    num_frames: int, frames: int, stride: int, rng: np.random.Generator | None, *, place: float = 0.5
) -> np.ndarray:
    """Ids (T,) int64 of T = `frames` frames, `stride` apart, out of a video of `num_frames` >= 1.

    With `rng` the window of frames * stride starts anywhere it fits whole, as VideoMAE samples (its
    kinetics.py, `_sample_train_indices`); without, `place` in 0..1 is the share of the free room that lies
    before the clip.
    """
    if rng is None:
        start = int(place * max(0, num_frames - (frames - 1) * stride - 1))
    else:
        start = int(rng.integers(max(1, num_frames - frames * stride + 1)))
    return np.minimum(start + np.arange(frames, dtype=np.int64) * stride, num_frames - 1)


def timed_ids(
    seconds_N: np.ndarray, frames: int, fps: float, rng: np.random.Generator | None, *, place: float = 0.5
) -> np.ndarray:
    """Ids (T,) int64 of the frames that are on the screen at T = `frames` moments, 1/fps seconds apart.

    The same span of time from videos of any rate, constant or not. With `rng` it starts anywhere it fits
    whole; without, see `frame_ids`.
    """
    if not np.isfinite(seconds_N).all():
        raise DecodeError("the file does not say when its frames are shown, which input.sample_fps needs")
    room = max(0.0, float(seconds_N[-1]) - (frames - 1) / fps)
    start = room * place if rng is None else rng.uniform(0, room)
    moments = start + np.arange(frames) / fps + _CLOCK_SECONDS
    return np.maximum(np.searchsorted(seconds_N, moments, side="right") - 1, 0).astype(np.int64)


def keyframe_ids(seconds_N: np.ndarray, size: InputConfig, second: float) -> np.ndarray:
    """Ids (T,) int64 of the frames around the one that is on the screen at `second`.

    By stride the window is the one of AVA's reference code: (T * stride) // 2 frames before the keyframe,
    of which every stride-th is taken from the middle of the first stride on. Beyond the ends of the video its
    first and last frame are repeated. Raises DecodeError where the file has no times, or ends before.
    """
    if not np.isfinite(seconds_N).all():
        raise DecodeError("the file does not say when its frames are shown, so its keyframe cannot be found")
    if second > seconds_N[-1] + _LAST_FRAME_SECONDS:
        raise DecodeError(f"the keyframe is at {second:g} s, the last frame at {seconds_N[-1]:.2f} s")
    steps = np.arange(size.frames, dtype=np.int64)
    if size.sample_fps is None:
        stride = size.frame_stride
        keyframe = np.searchsorted(seconds_N, second + _CLOCK_SECONDS, side="right") - 1
        ids = keyframe - size.frames * stride // 2 + (stride - 1) // 2 + steps * stride
    else:
        moments = second + (steps - (size.frames - 1) / 2) / size.sample_fps + _CLOCK_SECONDS
        ids = np.searchsorted(seconds_N, moments, side="right") - 1
    return np.clip(ids, 0, len(seconds_N) - 1)


def uniform_ids(
    num_frames: int, frames: int, rng: np.random.Generator | None, *, clip: int = 0, clips: int = 1
) -> np.ndarray:
    """Ids (T,) int64, one from each of T = `frames` equal parts of the video (TSN, arXiv 1608.00859).

    With `rng` any frame of each part; without, the middle one of the part's section number `clip` of `clips`.
    """
    offsets = (clip + 0.5) / clips if rng is None else rng.random(frames)
    return np.floor((np.arange(frames) + offsets) * num_frames / frames).astype(np.int64)
