"""Media made on the spot: videos in many containers and codecs, images, and places to put them."""

from __future__ import annotations

import io
from collections.abc import Callable

import av
import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# A busy machine must not fail a test.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")


def _frames(num_frames: int, height: int, width: int) -> np.ndarray:
    """A coloured pattern that moves, so that every frame differs: uint8 (T, H, W, 3)."""
    rng = np.random.default_rng(7)
    pattern = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    picture = pattern.repeat(8, 0).repeat(8, 1)[:height, :width]
    return np.stack([np.roll(picture, (t, 2 * t), (0, 1)) for t in range(num_frames)])


def _video(
    *,
    num_frames: int = 40,
    height: int = 48,
    width: int = 64,
    container: str = "mp4",
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        options = {"g": "10", "bf": "2"} if options is None else options
        stream = output.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.thread_count = 1
        for pixels in _frames(num_frames, height, width):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            output.mux(stream.encode(frame.reformat(format=pixel_format, threads=1)))
        output.mux(stream.encode())
    return file.getvalue()


def _decode_all(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        container.streams.video[0].thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def _turn_mp4(upright: bytes, turns: int) -> bytes:
    # The track header of an MP4 maps (x, y) to (a x + c y, b x + d y); numbers are 16.16 fixed point.
    matrix = [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)][turns]
    data = bytearray(upright)
    place = data.index(b"tkhd") + 4 + 40
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[place + offset : place + offset + 4] = (value << 16).to_bytes(4, "big", signed=True)
    return bytes(data)


def _image(value: int = 0, *, height: int = 24, width: int = 32, format: str = "PNG") -> bytes:
    pixels = np.random.default_rng(value).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


@pytest.fixture(scope="session")
def make_video() -> Callable[..., bytes]:
    """Encode the moving pattern: keyword arguments num_frames, height, width, container, codec, ..."""
    return _video


@pytest.fixture(scope="session")
def decode_all() -> Callable[[bytes], np.ndarray]:
    """Every frame of a video, one after the other: (T, H, W, 3)."""
    return _decode_all


@pytest.fixture(scope="session")
def turn_mp4() -> Callable[[bytes, int], bytes]:
    """An MP4 file that asks the player for so many quarter turns, counter-clockwise."""
    return _turn_mp4


@pytest.fixture(scope="session")
def make_image() -> Callable[..., bytes]:
    """Encode noise; another `value` gives another picture."""
    return _image


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path) -> str:
    """The URI of an empty folder, once on disk and once in a bucket."""
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_bucket") + "/data"
