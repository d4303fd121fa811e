"""Videos of the kind that copies of Kinetics-400 hold, made here: 340x256, H.264, 10 s, 0.6 Mb/s.

Keyframes every 250 frames are x264's default and what most copies have; every 12 is what preparing gives.
"""

from __future__ import annotations

import io

import av
import numpy as np

KEYFRAMES = (12, 250)


def scene(num_frames: int, height: int, width: int) -> np.ndarray:
    """uint8 (T, H, W, 3): a camera that pans over a landscape, things that move before it, and some grain."""
    rng = np.random.default_rng(0)
    far, near = (_landscape(height * 2, width * 2, rng) for _ in range(2))
    rows, columns = np.mgrid[:height, :width]
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    for t in range(num_frames):
        top, left = int(height / 2 * (1 + np.sin(t / 60))), int(width / 2 * (1 + np.cos(t / 80)))
        picture = far[top : top + height, left : left + width].astype(np.float32)
        for thing in range(3):
            row = height * (0.5 + 0.3 * np.sin(t / (20 + 9 * thing) + thing))
            column = width * (0.5 + 0.4 * np.cos(t / (25 + 7 * thing) + 2 * thing))
            inside = (rows - row) ** 2 + (columns - column) ** 2 < (height / 8) ** 2
            picture[inside] = near[:height, :width][inside]
        frames[t] = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255)
    return frames


def _landscape(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with the spectrum of a photograph: amplitude ~ frequency ** -1.35."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = np.maximum(frequency, 1 / max(height, width)) ** -1.35
    channels = []
    for _ in range(3):
        field = np.fft.irfft2(amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape)), (height, width))
        channels.append(128 + 45 * field / field.std())
    return np.clip(np.stack(channels, axis=-1), 0, 255)


def encode(frames: np.ndarray, keyframe_every: int) -> bytes:
    """H.264 as copies of Kinetics have it: x264's defaults, B-frames, 0.6 Mb/s, 30 frames per second."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"preset": "medium", "g": str(keyframe_every)}
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.bit_rate = 600_000
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def made_videos() -> dict[str, bytes]:
    """Name -> bytes."""
    frames = scene(300, 256, 340)
    return {f"340x256 H.264, a keyframe every {every}": encode(frames, every) for every in KEYFRAMES}
