"""Which frames of a video make up a clip."""

from __future__ import annotations

import numpy as np


def frame_ids(num_frames: int, frames: int, stride: int, rng: np.random.Generator | None) -> np.ndarray:
    """Ids (T,) int64 of `frames` frames, `stride` apart, out of a video of `num_frames` >= 1.

        fxxxfxxxfxxx      frames=3, stride=4: a window of 12 frames

    With `rng` the window starts anywhere it fits whole, as VideoMAE samples (its kinetics.py,
    `_sample_train_indices`); without, the clip lies in the middle. A video that is too short is read from
    its start, and its last frame is repeated.
    """
    if rng is None:
        start = max(0, (num_frames - (frames - 1) * stride - 1) // 2)
    else:
        start = int(rng.integers(max(1, num_frames - frames * stride + 1)))
    return np.minimum(start + np.arange(frames, dtype=np.int64) * stride, num_frames - 1)
