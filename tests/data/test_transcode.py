"""Videos written anew: quick to decode, and as near to the original's picture as the eye can tell."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.limits import DecodeError
from mae_dist.data.video import read_clip, transcode


def smooth(num_frames: int, height: int, width: int) -> np.ndarray:
    """Soft colours that drift: uint8 (T, H, W, 3), without the sharp edges that 4:2:0 cannot keep."""
    t, y, x = np.meshgrid(*(np.arange(n) for n in (num_frames, height, width)), indexing="ij")
    waves = [np.sin((x + 3 * t) / 19), np.sin((y - 2 * t) / 13), np.sin((x + y + t) / 29)]
    return np.stack([np.rint(127.5 + 90 * wave) for wave in waves], axis=-1).astype(np.uint8)


def encode(
    frames: np.ndarray,
    *,
    container: str = "mp4",
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    colorspace: int = 2,
    color_range: int = 0,
    times: list[int] | None = None,
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> bytes:
    """A video of these frames, shown at `times` (in tenths of a second)."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        options = {"g": "250", "bf": "2", "crf": "5"} if options is None else options
        stream = output.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixel_format
        context = stream.codec_context
        context.thread_count, context.time_base = 1, Fraction(1, 10)
        context.colorspace, context.color_range = colorspace, color_range
        noise = output.add_stream("aac", rate=8000, layout="mono") if sound else None
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format=pixel_format,
                dst_colorspace=1 if colorspace == 1 else None,
                dst_color_range=color_range or None,
                threads=1,
            )
            frame.pts = number if times is None else times[number]
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if noise is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate = 8000
            output.mux(noise.encode(silence))
            output.mux(noise.encode())
    return file.getvalue()


def everything(data: bytes) -> np.ndarray:
    return read_clip(data, lambda seconds: np.arange(len(seconds)))


def seconds_of(data: bytes) -> list[float]:
    seen = []

    def choose(seconds: np.ndarray) -> np.ndarray:
        seen[:] = seconds.tolist()
        return np.arange(1)

    read_clip(data, choose)
    return seen


def resized(clip: np.ndarray, height: int, width: int) -> np.ndarray:
    frames = [Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC) for frame in clip]
    return np.stack([np.asarray(frame) for frame in frames])


def through_420(clip: np.ndarray) -> np.ndarray:
    frames = [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in clip]
    return np.stack([f.reformat(format="yuv420p").to_ndarray(format="rgb24") for f in frames])


def difference(left: np.ndarray, right: np.ndarray) -> float:
    assert left.shape == right.shape
    return float(np.abs(left.astype(int) - right).mean())


@pytest.mark.parametrize("keyframe_every", [1, 5, 12])
def test_keyframes_come_as_often_as_asked_and_no_frame_waits_for_a_later_one(keyframe_every):
    source = encode(smooth(40, 48, 64))
    with av.open(io.BytesIO(source)) as container:
        assert container.streams.video[0].codec_context.has_b_frames
    made = transcode(source, short_side=48, keyframe_every=keyframe_every)
    with av.open(io.BytesIO(made.data)) as container:
        [stream] = container.streams
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert not stream.codec_context.has_b_frames
    assert [packet.pts for packet in packets] == [packet.dts for packet in packets]
    keyframes = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    assert keyframes[0] == 0
    assert max(np.diff([*keyframes, len(packets)])) <= keyframe_every


def test_frames_do_not_come_back_as_the_kind_they_were():
    source = encode(smooth(30, 48, 64), options={"g": "3", "bf": "2", "crf": "5"})
    made = transcode(source, short_side=48, keyframe_every=250)
    with av.open(io.BytesIO(made.data)) as container:
        kinds = [frame.pict_type for frame in container.decode(video=0)]
    assert kinds.count(av.video.frame.PictureType.B) == 0
    assert kinds.count(av.video.frame.PictureType.P) > 25


KINDS = {
    "8 bit": {},
    "10 bit": {"pixel_format": "yuv420p10le"},
    "4:4:4": {"pixel_format": "yuv444p"},
    "BT.709": {"colorspace": 1, "color_range": 1},
    "full range": {"color_range": 2},
    "BT.709 in full range": {"colorspace": 1, "color_range": 2},
    "JPEG's range by its format": {"codec": "mjpeg", "container": "matroska", "pixel_format": "yuvj420p"},
    "RGB": {"codec": "ffv1", "container": "matroska", "pixel_format": "bgr0", "colorspace": 0},
    "grey": {"codec": "ffv1", "container": "matroska", "pixel_format": "gray"},
    "MPEG-4 in AVI": {"codec": "mpeg4", "container": "avi"},
    "a transport stream": {"container": "mpegts"},
    "an elementary stream": {"container": "h264"},
}


@pytest.mark.parametrize("short_side", [96, 48], ids=["kept in size", "halved"])
@pytest.mark.parametrize("name", KINDS)
def test_its_frames_are_near_those_of_the_original_resized(name, short_side):
    options = {} if KINDS[name].get("codec") else {"options": {"g": "250", "bf": "2", "crf": "5"}}
    source = encode(smooth(12, 96, 128), **{"options": {"q:v": "2"}} | options | KINDS[name])
    made = transcode(source, short_side=short_side, quality=8)
    original = everything(source)
    expected = resized(original, short_side, short_side * 4 // 3)
    clip = everything(made.data)
    assert made.frames == len(clip)
    # Colours at half the resolution, which every such file has, cost up to 3 levels here.
    assert difference(clip, expected) < difference(through_420(expected), expected) + 0.5
    # On the way to 4:2:0 and back FFmpeg loses up to 1.5 levels; a wrong range or matrix would shift by more.
    assert np.abs((clip.astype(float) - expected).mean((0, 1, 2))).max() < 1.6


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((47, 65), 256, (46, 64)),
        ((48, 64), 256, (48, 64)),
        ((96, 171), 48, (48, 86)),
        ((171, 97), 48, (84, 48)),
        ((2, 300), 256, (2, 300)),
    ],
    ids=["odd", "small", "wide", "tall and odd", "a strip"],
)
def test_the_short_side_is_what_was_asked_and_sides_are_even(size, short_side, expected):
    source = encode(smooth(3, *size), pixel_format="yuv444p")
    assert everything(transcode(source, short_side=short_side).data).shape[1:3] == expected


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
    ids=["90 degrees clockwise", "180 degrees", "90 degrees counter-clockwise"],
)
def test_a_rotated_video_is_stored_upright(matrix, turns):
    upright = encode(smooth(6, 48, 64), colorspace=1, color_range=2)
    data = bytearray(upright)
    place = data.index(b"tkhd") + 4 + 40
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[place + offset : place + offset + 4] = (value << 16).to_bytes(4, "big", signed=True)
    made = transcode(bytes(data), short_side=48, quality=8)
    with av.open(io.BytesIO(made.data)) as container:
        assert {frame.rotation for frame in container.decode(video=0)} == {0}
    assert difference(everything(made.data), np.rot90(everything(upright), turns, axes=(1, 2))) < 1.6


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_frames_keep_their_own_times_and_begin_at_0(container):
    times = [30, 31, 35, 36, 50, 51, 52]
    source = encode(smooth(7, 48, 64), container=container, times=times)
    made = transcode(source, short_side=48)
    assert np.allclose(seconds_of(made.data), [(time - 30) / 10 for time in times], atol=1e-6)
    assert made.fps == pytest.approx(6 / 2.2)


def test_frames_without_times_follow_each_other_at_the_mean_rate():
    made = transcode(encode(smooth(7, 48, 64), container="avi", codec="mpeg4", options={}), short_side=48)
    assert np.allclose(seconds_of(made.data), np.arange(7) / 10)
    assert (made.frames, made.fps) == (7, pytest.approx(10))


def test_a_single_frame_has_no_rate():
    made = transcode(encode(smooth(1, 48, 64)), short_side=48)
    assert made.frames == 1
    assert np.isnan(made.fps)


def test_the_sound_is_dropped():
    source = encode(smooth(5, 48, 64), sound=True)
    with av.open(io.BytesIO(source)) as container:
        assert len(container.streams) == 2
    with av.open(io.BytesIO(transcode(source, short_side=48).data)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_the_same_file_gives_the_same_bytes():
    source = encode(smooth(30, 96, 128))
    assert len({transcode(source, short_side=64).data for _ in range(20)}) == 1


def test_damage_anywhere_is_refused():
    source = encode(smooth(40, 48, 64), options={"g": "10", "bf": "0"})
    with av.open(io.BytesIO(source)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][33]
        start, size = packet.pos + packet.size * 2 // 3, packet.size // 3
    broken = source[:start] + b"\xff" * size + source[start + size :]
    with pytest.raises(DecodeError):
        transcode(broken, short_side=48)


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_a_file_cut_short_is_refused(container):
    codec = "mpeg4" if container == "avi" else "libx264"
    source = encode(smooth(40, 48, 64), container=container, codec=codec, options={})
    with pytest.raises(DecodeError):
        transcode(source[: len(source) // 2], short_side=48)


def test_a_picture_that_changes_its_size_is_refused():
    parts = [encode(smooth(5, *size), container="h264") for size in ((48, 64), (64, 96))]
    with pytest.raises(DecodeError, match="the picture changes its size within the video"):
        transcode(b"".join(parts), short_side=48)


@pytest.mark.parametrize(
    ("data", "limits", "reason"),
    [
        (b"", {}, "the file is empty"),
        (bytes(5000), {}, "not a readable video"),
        (None, {"pixels": 1000}, "64x48 pixels, the limit is 1,000"),
        (None, {"frames": 4}, "more than 4 frames"),
        (None, {"seconds": 0}, "decoding took more than 0 s"),
    ],
)
def test_what_cannot_be_read_or_is_beyond_a_limit_is_refused(data, limits, reason):
    with pytest.raises(DecodeError, match=reason):
        transcode(encode(smooth(5, 48, 64)) if data is None else data, DecodeLimits(**limits), short_side=48)
