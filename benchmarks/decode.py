"""CPU time from the bytes of a video to crops of 16x224x224, against loaders by decord and by torchcodec.

A clip is 16 frames, 4 apart, from a random place of the video; its crop is one of VideoMAE's multi-scale
boxes, the same for all ways. Ours gives uint8, as torchcodec's does; decord's is the loader of VideoMAE's
kind: a batch of frames, each cropped and resized by Pillow, then float32 and normalised. For torchcodec the
faster of its two modes counts, cropped and resized by torchvision's transforms (v2). Every way runs on one
thread, in turns; what counts is CPU time, helper threads included.

    python benchmarks/decode.py [--rounds 9] [--json] [--video FILE ...]

Videos are made here unless some are given. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from kinetics_like import made_videos
from PIL import Image
from torchvision.transforms import functional
from torchvision.transforms.v2 import functional as v2

from mae_dist.data.frames import frame_ids
from mae_dist.data.transforms import Box, multi_scale_box
from mae_dist.data.video import open_clip

FRAMES, STRIDE, SIZE = 16, 4, 224
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLIPS_PER_ROUND = 4
CROPS = 4
GOALS = {"a decord loader, k=1": 2.3, "torchcodec, k=1": 1.4, f"a decord loader, k={CROPS}": 8.0}

Way = Callable[[bytes, np.ndarray, list[Box]], object]


def ours(data: bytes, ids: np.ndarray, boxes: list[Box]) -> list[np.ndarray]:
    """mae_dist: one decode, a uint8 (16, 224, 224, 3) per box."""
    clip = open_clip(data, lambda seconds: ids)
    return [clip.crop(box, SIZE, SIZE, "bilinear") for box in boxes]


def decord_loader(data: bytes, ids: np.ndarray, boxes: list[Box]) -> list[torch.Tensor]:
    """A loader of VideoMAE's kind, which decodes anew for every crop: float32 (16, 3, 224, 224)."""
    import decord

    clips = []
    for box in boxes:
        reader = decord.VideoReader(io.BytesIO(data), num_threads=1, ctx=decord.cpu(0))
        frames = reader.get_batch(ids.tolist()).asnumpy()
        corners = (box.left, box.top, box.left + box.width, box.top + box.height)
        images = [Image.fromarray(frame).crop(corners) for frame in frames]
        images = [image.resize((SIZE, SIZE), Image.Resampling.BILINEAR) for image in images]
        clips.append(functional.normalize(torch.stack([functional.to_tensor(i) for i in images]), MEAN, STD))
    return clips


def torchcodec_loader(mode: str) -> Way:
    """Whole frames by torchcodec, cropped and resized as its users do: uint8 (16, 3, 224, 224)."""

    def load(data: bytes, ids: np.ndarray, boxes: list[Box]) -> list[torch.Tensor]:
        from torchcodec.decoders import VideoDecoder

        frames = VideoDecoder(data, num_ffmpeg_threads=1, seek_mode=mode).get_frames_at(ids.tolist()).data
        return [v2.resized_crop(frames, *box, [SIZE, SIZE], antialias=True) for box in boxes]

    return load


WAYS: dict[str, tuple[Way, int]] = {
    "ours, k=1": (ours, 1),
    f"ours, k={CROPS}": (ours, CROPS),
    "decord": (decord_loader, 1),
    "torchcodec exact": (torchcodec_loader("exact"), 1),
    "torchcodec approximate": (torchcodec_loader("approximate"), 1),
}


def milliseconds(way: Way, data: bytes, work: list[tuple[np.ndarray, list[Box]]], num_crops: int) -> float:
    """CPU milliseconds per clip."""
    start = time.process_time()
    for ids, boxes in work:
        way(data, ids, boxes[:num_crops])
    return (time.process_time() - start) / (len(work) * num_crops) * 1000


def measure(data: bytes, rounds: int) -> dict[str, list[float]]:
    """Way -> milliseconds per clip in each round; all ways see the same clips, in changing order."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        height, width = stream.height, stream.width
        num_frames = sum(packet.size > 0 for packet in container.demux(stream))
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(rounds + 1):
        work = [
            (
                frame_ids(num_frames, FRAMES, STRIDE, rng),
                [multi_scale_box(height, width, SIZE, SIZE, rng) for _ in range(CROPS)],
            )
            for _ in range(CLIPS_PER_ROUND)
        ]
        for name in rng.permutation(list(WAYS)):
            way, num_crops = WAYS[name]
            spent = milliseconds(way, data, work, num_crops)
            if number:  # the first round warms up
                found[name].append(spent)
    return found


def claims_of(video: str, found: dict[str, list[float]]) -> list[dict[str, object]]:
    """Medians over the rounds of the ratios within a round."""
    rivals = {
        "a decord loader, k=1": ("decord", "ours, k=1"),
        "torchcodec, k=1": (
            min(("torchcodec exact", "torchcodec approximate"), key=lambda n: statistics.median(found[n])),
            "ours, k=1",
        ),
        f"a decord loader, k={CROPS}": ("decord", f"ours, k={CROPS}"),
    }
    claims = []
    for rival, (theirs, own) in rivals.items():
        measured = statistics.median(a / b for a, b in zip(found[theirs], found[own], strict=True))
        claims.append(
            {
                "what": f"16x4 frames to 224 crops, {video}: times {rival}, CPU time",
                "measured": round(measured, 2),
                "goal": GOALS[rival],
                "met": measured >= GOALS[rival],
            }
        )
    return claims


def restart_with_pyavs_ffmpeg() -> None:
    """torchcodec looks for FFmpeg under names that PyAV's own libraries have only through links."""
    if os.environ.get("MAE_DIST_BENCH_FFMPEG"):
        return
    folder, bundled = tempfile.mkdtemp(), Path(av.__file__).parents[1] / "av.libs"
    for library in bundled.iterdir():
        if match := re.fullmatch(r"(lib(?:av|sw)\w+)-[0-9a-f]+(\.so\.\d+)[\d.]*", library.name):
            Path(folder, match[1] + match[2]).symlink_to(library)
    paths = f"{folder}:{bundled}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    environment = os.environ | {"LD_LIBRARY_PATH": paths, "MAE_DIST_BENCH_FFMPEG": folder}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def main() -> None:
    """Make or read the videos, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print the claims as JSON")
    parser.add_argument("--video", nargs="+", default=[], help="use these files instead")
    arguments = parser.parse_args()
    restart_with_pyavs_ffmpeg()
    torch.set_num_threads(1)
    videos = {Path(path).name: Path(path).read_bytes() for path in arguments.video} or made_videos()
    claims, details = [], {}
    for name, data in videos.items():
        found = measure(data, arguments.rounds)
        claims += claims_of(name, found)
        details[name] = {way: round(statistics.median(times), 2) for way, times in found.items()}
    if arguments.json:
        print(json.dumps({"claims": claims, "milliseconds per clip": details}, indent=1))
        return
    for name, times in details.items():
        print(f"{name}, {len(videos[name]) / 1000:.0f} KB, ms per clip: {times}")
    for claim in claims:
        print(f"{claim['measured']}x (goal {claim['goal']}x): {claim['what']}")


if __name__ == "__main__":
    main()
