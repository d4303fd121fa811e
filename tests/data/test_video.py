"""Clips decoded exactly, wherever they lie in a file, and files that cannot be decoded."""

from __future__ import annotations

import io
import wave

import av
import numpy as np
import pytest

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.frames import frame_ids
from mae_dist.data.limits import DecodeError
from mae_dist.data.video import encode_h264, read_clip
from tests.data.video_kinds import LIBVPX, VIDEOS


def first(seconds: np.ndarray) -> np.ndarray:
    return np.arange(min(16, len(seconds)))


def all_of(seconds: np.ndarray) -> np.ndarray:
    return np.arange(len(seconds))


@pytest.mark.parametrize("name", VIDEOS)
def test_a_clip_equals_the_same_frames_of_a_full_decode(name, make_video, decode_all):
    data = make_video(**VIDEOS[name])
    every_frame = decode_all(data)
    assert len(every_frame) == 40
    for case in range(12):
        seen = []

        def choose(seconds, case=case, seen=seen):
            seen.append(len(seconds))
            return frame_ids(len(seconds), 6, 1 + case % 4, np.random.default_rng(case))

        clip = read_clip(data, choose)
        assert seen[-1] == 40
        assert (clip == every_frame[choose(np.zeros(40))]).all()


def test_frames_may_be_asked_for_in_any_order_and_twice(make_video, decode_all):
    data = make_video()
    for ids in (np.array([31, 2, 2, 17]), np.array([31, 2, 17])):
        assert (read_clip(data, lambda seconds: ids) == decode_all(data)[ids]).all()  # noqa: B023


def break_packet(data: bytes, index: int) -> bytes:
    """Overwrite the last third of one compressed frame (in decoding order)."""
    with av.open(io.BytesIO(data)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][index]
        start, size = packet.pos + packet.size * 2 // 3, packet.size // 3
    return data[:start] + b"\xff" * size + data[start + size :]


def test_only_what_a_clip_needs_is_decoded(make_video, decode_all):
    data = make_video()
    every_frame = decode_all(data)
    start_broken, end_broken = break_packet(data, 1), break_packet(data, 34)
    assert (read_clip(start_broken, lambda seconds: np.arange(20, 25)) == every_frame[20:25]).all()
    assert (read_clip(end_broken, lambda seconds: np.arange(5, 10)) == every_frame[5:10]).all()
    for broken in (start_broken, end_broken):
        with pytest.raises(DecodeError):
            read_clip(broken, all_of)


def test_damage_that_the_decoder_conceals_is_refused_all_the_same(make_video):
    whole, concealed = make_video(), 0
    for index in range(40):
        data = break_packet(whole, index)
        try:
            with av.open(io.BytesIO(data)) as container:
                container.streams.video[0].thread_count = 1
                damaged = any(frame.is_corrupt for frame in container.decode(video=0))
        except av.error.FFmpegError:
            continue
        if damaged:
            concealed += 1
            with pytest.raises(DecodeError, match=r"the frame at \d\.\d\d s is damaged"):
                read_clip(data, all_of)
    assert concealed > 5


@pytest.mark.parametrize("share", [0.2, 0.5, 0.85])
@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_a_file_cut_short_is_refused(container, share, make_video):
    data = make_video(container=container)
    with pytest.raises(DecodeError):
        read_clip(data[: int(share * len(data))], first)


def test_a_cut_matroska_file_says_how_much_is_missing(make_video):
    data = make_video(container="matroska")
    with pytest.raises(DecodeError, match=r"cut short: the header promises 4\.0 s, the data ends at 0\.9 s"):
        read_clip(data[: len(data) // 3], first)


def sound_only() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (bytes(5000), "not a readable video"),
        (np.random.default_rng(0).bytes(5000), "not a readable video"),
        (b"<html>404 Not Found</html>", "not a readable video"),
        (sound_only(), "the file has no video stream"),
    ],
    ids=["empty", "zeros", "noise", "text", "sound"],
)
def test_a_file_without_video_is_refused_with_the_reason(data, reason):
    with pytest.raises(DecodeError, match=reason):
        read_clip(data, first)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi"])
def test_mutated_files_give_a_clip_or_a_decode_error_and_nothing_else(container, make_video):
    data = make_video(container=container)
    outcomes = set()
    for case in range(60):
        rng = np.random.default_rng(case)
        mutated = bytearray(data)
        start = int(rng.integers(len(data)))
        if case % 2:
            mutated[start] ^= 1 << int(rng.integers(8))
        else:
            mutated[start : start + 100] = rng.bytes(len(mutated[start : start + 100]))
        try:
            assert read_clip(bytes(mutated), first).dtype == np.uint8
            outcomes.add("clip")
        except DecodeError:
            outcomes.add("error")
    assert "error" in outcomes


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (DecodeLimits(pixels=1000), "64x48 pixels, the limit is 1,000"),
        (DecodeLimits(frames=39), "more than 39 frames"),
        (DecodeLimits(clip_pixels=15 * 64 * 48), "a clip of 64x48 frames exceeds 46,080 pixels"),
        (DecodeLimits(seconds=0), "decoding took more than 0 s"),
    ],
)
def test_a_video_beyond_a_limit_is_refused(limits, reason, make_video):
    with pytest.raises(DecodeError, match=reason):
        read_clip(make_video(), first, limits)


def test_a_small_file_that_claims_huge_frames_is_refused_from_its_header(make_video):
    data = bytearray(make_video(container="ivf", codec="libvpx", options=LIBVPX))
    huge = (16_000).to_bytes(2, "little") * 2
    data[12:16] = huge
    start = data.index(b"\x9d\x01\x2a")  # the start code of a VP8 keyframe, before its width and height
    data[start + 3 : start + 7] = huge
    with pytest.raises(DecodeError, match="16000x16000 pixels, the limit is 64,000,000"):
        read_clip(bytes(data), first)


def test_a_header_that_lies_about_the_length_changes_nothing(make_video, decode_all):
    data = make_video()
    place = data.index(b"mvhd") + 4 + 16
    lying = data[:place] + (10**9).to_bytes(4, "big") + data[place + 4 :]
    assert (read_clip(lying, lambda seconds: all_of(seconds)[-6:]) == decode_all(data)[-6:]).all()


def test_encoded_clips_are_h264_close_to_the_original_and_always_the_same(decode_all):
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    frames = np.stack([np.roll(np.broadcast_to(ramp[:, None, None], (64, 48, 3)), t, 0) for t in range(9)])
    data = encode_h264(frames, 10)
    assert {encode_h264(frames, 10) for _ in range(20)} == {data}
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].average_rate == 10
    decoded = decode_all(data)
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 4


def test_an_odd_frame_size_cannot_be_encoded():
    with pytest.raises(ValueError, match="even height and width, got 33x32"):
        encode_h264(np.zeros((2, 33, 32, 3), np.uint8), 10)
