"""Facts of a video file: right without decoding it, and right for one of which only a part can be decoded."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator

import av
import pytest

from mae_dist.config.limits import DecodeLimits
from mae_dist.data.limits import DecodeError
from mae_dist.data.video.probe import probe_video
from tests.data.video_kinds import VIDEOS


@pytest.mark.parametrize("name", VIDEOS)
def test_packets_tell_how_many_frames_there_are_and_how_fast_they_follow(name, make_video, decode_all):
    data = make_video(**VIDEOS[name])
    frames_THWC = decode_all(data)
    facts = probe_video(data)
    assert facts.frames == len(frames_THWC)
    assert (facts.height, facts.width) == frames_THWC.shape[1:3]
    # What an elementary stream is taken to be is FFmpeg's guess.
    assert "without timestamps" in name or facts.fps == pytest.approx(10)


@pytest.mark.parametrize("name", VIDEOS)
def test_decoding_finds_what_opening_found(name, make_video):
    data = make_video(**VIDEOS[name])
    assert probe_video(data, decode=True) == probe_video(data)


@pytest.fixture
def scheduling() -> Iterator[None]:
    """SVT-AV1, where root runs it, gives the calling thread real-time priority.

    Processes that this one starts afterwards would inherit it, and starve the rest of the machine.
    """
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    yield
    os.sched_setscheduler(0, policy, priority)


def test_a_codec_has_its_own_name_and_not_that_of_its_decoder(make_video, scheduling):
    codecs = [("libx264", "mp4", "h264"), ("libsvtav1", "mp4", "av1"), ("libvpx-vp9", "webm", "vp9")]
    for library, container, name in codecs:
        data = make_video(codec=library, container=container, options={}, num_frames=5, height=64)
        assert probe_video(data).codec == name


def test_files_without_timestamps_are_told_apart(make_video):
    assert probe_video(make_video()).is_timed
    assert not probe_video(make_video(container="avi", codec="mpeg4")).is_timed


def test_the_rate_is_that_of_the_frames_and_not_that_of_the_header():
    """Frames 0.1 s apart, then 0.3 s: a header can only tell one of them."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for time in (0, 1, 2, 3, 4, 7, 10, 13):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = time
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    facts = probe_video(file.getvalue())
    assert facts.frames == 8
    assert facts.fps == pytest.approx(7 / 1.3)


def test_one_frame_has_the_rate_of_its_header(make_video):
    assert probe_video(make_video(num_frames=1)).fps == pytest.approx(10)


def test_what_only_decoding_shows_is_told_with_its_place(make_video):
    data = make_video(options={"g": "10", "bf": "0"})
    with av.open(io.BytesIO(data)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][23]
        start, size = packet.pos, packet.size
    broken = data[: start + 4] + b"\xff" * (size - 4) + data[start + size :]
    assert probe_video(broken) == probe_video(data)
    with pytest.raises(DecodeError, match=r"^not a readable video behind frame 2\d: Invalid data|^frame 23"):
        probe_video(broken, decode=True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"not a video" * 100, "not a readable video: Invalid data found"),
    ],
)
def test_what_cannot_be_opened_has_a_reason(data, reason):
    with pytest.raises(DecodeError, match=reason):
        probe_video(data)


def test_limits_hold_for_opening_too(make_video):
    data = make_video()
    with pytest.raises(DecodeError, match="64x48 pixels, the limit is 3,000"):
        probe_video(data, DecodeLimits(pixels=3000))
    with pytest.raises(DecodeError, match="more than 39 frames"):
        probe_video(data, DecodeLimits(frames=39))
    assert not math.isnan(probe_video(data, DecodeLimits(frames=40)).fps)
