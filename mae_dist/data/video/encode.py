"""Frames as the bytes of a video file."""

from __future__ import annotations

import io

import av
import numpy as np


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
