"""torchcodec gives the pixels that our own decoder gives, wherever both can decode.

It runs in a process of its own, which finds the FFmpeg that PyAV brings along under the names that torchcodec
asks for.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest

from mae_dist.data.video import prepare_decoder
from tests.data.video_kinds import VIDEOS

ROOT = Path(__file__).parents[2]
UNTIMED = "the frames have no timestamps, by which torchcodec finds them"
INEXACT = "torchcodec does not find the frames of a transport stream exactly"
REFUSED = {
    "an elementary stream without timestamps": UNTIMED,
    "MPEG-4 with B-frames in AVI": UNTIMED,
    "a transport stream": INEXACT,
    "H.264 without keyframes to start from": INEXACT,
}
# Their colours have to be interpolated, and the two ask FFmpeg for different filters.
OTHER_COLORS = {"10 bit", "odd sizes in MPEG-2"}

COMPARE = """
import json, sys
from pathlib import Path
import numpy as np
from mae_dist.data.limits import DecodeError
from mae_dist.data.transforms import Box
from mae_dist.data.video import VIDEO_DECODERS, prepare_decoder

prepare_decoder("torchcodec")
choices = [
    lambda seconds: np.arange(2, 30, 4),
    lambda seconds: np.array([21, 3, 3]),
    lambda seconds: np.array([0]),
]
found = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    largest, brightness = 0, 0.0
    try:
        for choose in choices:
            clips = [VIDEO_DECODERS[name](path.read_bytes(), choose, None) for name in ("pyav", "torchcodec")]
            box = Box(3, 5, 17, 29)
            ours, theirs = (clip.crop(box, 17, 29, "bicubic").astype(int) for clip in clips)
            largest = max(largest, int(np.abs(ours - theirs).max()))
            # The weights of BT.601, with which these files were made.
            brightness = max(brightness, np.abs((ours - theirs) @ [0.299, 0.587, 0.114]).mean())
        found[path.name] = {"largest": largest, "brightness": brightness}
    except DecodeError as error:
        found[path.name] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Where torchcodec finds FFmpeg: PyAV's libraries under their plain names."""
    folder, bundled = tmp_path_factory.mktemp("lib"), Path(av.__file__).parents[1] / "av.libs"
    for library in bundled.iterdir():
        if match := re.fullmatch(r"(lib(?:av|sw)\w+)-[0-9a-f]+(\.so\.\d+)[\d.]*", library.name):
            (folder / (match[1] + match[2])).symlink_to(library)
    return {**os.environ, "PYTHONPATH": str(ROOT), "LD_LIBRARY_PATH": f"{folder}:{bundled}"}


@pytest.fixture(scope="module")
def compared(tmp_path_factory, environment, make_video, turn_mp4) -> dict[str, Any]:
    """File -> largest difference of any pixel, and mean one in brightness; or why it was refused."""
    folder = tmp_path_factory.mktemp("videos")
    files = {name: make_video(**kind) for name, kind in VIDEOS.items()}
    files |= {f"turned {turns}": turn_mp4(make_video(), turns) for turns in (1, 2, 3)}
    files |= {"broken": make_video()[:2000], "empty": b"", "no video": bytes(3000)}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    command = [sys.executable, "-c", COMPARE, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*sorted(VIDEOS.keys() - REFUSED.keys() - OTHER_COLORS), *(f"turned {n}" for n in (1, 2, 3))]
)
def test_both_decoders_give_the_same_pixels(name, compared):
    assert compared[name]["largest"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OTHER_COLORS))
def test_where_colours_are_interpolated_both_give_the_same_frames(name, compared):
    """In the mean over a clip, one level of brightness; another frame of the moving pattern is tens away."""
    assert compared[name]["brightness"] < 1


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_torchcodec_cannot_find_exactly_is_refused(name, compared):
    assert compared[name] == REFUSED[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reason"), [("broken", "not a readable video"), ("empty", "the file is empty")]
)
def test_what_is_no_video_is_refused_with_the_reason(name, reason, compared):
    assert reason in compared[name]
    assert "not a readable video" in compared["no video"]


def test_without_ffmpegs_libraries_the_message_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(
        ValueError, match=r"needs the extra mae_dist\[torchcodec\] and the shared libraries of"
    ):
        prepare_decoder("torchcodec")
