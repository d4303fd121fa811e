"""Two hundred hostile files, hanging codecs and killed decoders: nothing of it reaches the worker."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mae_dist.config.geometry import Grid
from mae_dist.config.limits import DecodeLimits
from mae_dist.config.schema import AugmentConfig, InputConfig, MaskConfig
from mae_dist.data import decoder as decoder_module
from mae_dist.data.batch import StreamSpec, build_block
from mae_dist.data.catalog import Catalog
from mae_dist.data.decoder import Decoder
from mae_dist.data.readers import build_catalog
from mae_dist.data.synthetic import write_moving_clips
from mae_dist.data.views import Request, ViewSpec
from tests.faults.codecs import hang_at_a_marked_file
from tests.faults.hostile import Hostile, corpus, good_images, good_videos

pytestmark = pytest.mark.slow

MOST_SECONDS = 2.0
MOST_GROWTH = 64 << 20
SIZE = InputConfig(frames=4, frame_stride=2, height=32, width=32)


@pytest.fixture(scope="module")
def hostile() -> Hostile:
    return corpus()


def outcomes_of(files: Hostile) -> tuple[dict[str, str], dict[str, float], int]:
    """Digest of the pixels or the reason, the child's CPU seconds and the parent's growth in bytes."""
    # At the limit a video gives up, a quarter above it the kernel kills; freeing what was read comes on top.
    limits = DecodeLimits(seconds=MOST_SECONDS / 2)
    spec = ViewSpec(seed=0, input=SIZE, augment=AugmentConfig(), limits=limits)
    views = np.zeros((1, 1, SIZE.frames, SIZE.height, SIZE.width, 3), dtype=np.uint8)
    decoder = Decoder()
    outcomes, seconds, growth = {}, {}, 0
    decoder.decode([Request(b"", "image", 0, (0,))], spec, views)  # starts the child
    start_bytes = resident_bytes()
    for name, (medium, data) in files.items():
        child, before = decoder.pid, cpu_seconds(decoder.pid)
        [error] = decoder.decode([Request(data, medium, 3, (0,))], spec, views)
        outcomes[name] = hashlib.sha256(views).hexdigest() if error is None else str(error)
        # Of a child that is gone the time is not known; the kernel has limited it.
        seconds[name] = cpu_seconds(decoder.pid) - before if decoder.pid == child else 0.0
        growth = max(growth, resident_bytes() - start_bytes)
    decoder.close()
    return outcomes, seconds, growth


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int | None) -> float:
    if pid is None:  # the last file has cost the child its life
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_hostile_files_cost_little_have_reasons_and_are_the_same_each_time(hostile):
    outcomes, seconds, growth = outcomes_of(hostile)
    assert len(outcomes) >= 200
    assert growth < MOST_GROWTH
    assert {name: spent for name, spent in seconds.items() if spent > MOST_SECONDS} == {}
    refused = {name: reason for name, reason in outcomes.items() if len(reason) != 64}
    assert len(refused) > 100
    # No file of the corpus stops a decoder: what they ask for is refused before it is done.
    assert {name: reason for name, reason in refused.items() if reason.startswith("the decoder")} == {}
    again, _, _ = outcomes_of(hostile)
    assert again == outcomes


def test_what_is_not_damaged_is_decoded():
    """Else the test above would pass with a decoder that refuses everything."""
    good = {name: ("video", data) for name, data in good_videos().items()}
    good |= {name: ("image", data) for name, data in good_images().items()}
    outcomes, _, _ = outcomes_of(good)
    assert {name for name, outcome in outcomes.items() if len(outcome) != 64} == set()


def test_no_sample_makes_ffmpeg_open_another_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("secret.mp4").write_bytes(good_videos()["h264.mp4"])
    playlist = b"ffconcat version 1.0\nfile secret.mp4\n"
    outcomes, _, _ = outcomes_of({"playlist": ("video", playlist)})
    assert outcomes["playlist"].startswith("not a readable video")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Catalog:
    folder = str(tmp_path_factory.mktemp("clips"))
    return build_catalog(write_moving_clips(folder, 24, seed=0, frames=40, size=160))


SPEC = StreamSpec(
    seed=3,
    micro_batch=24,
    input=InputConfig(frames=16, frame_stride=2, height=112, width=112),
    augment=AugmentConfig(crop="multi_scale"),
    mask=MaskConfig(kind="tube", ratio=0.75),
    grid=Grid(frames=8, rows=7, columns=7),
    train=True,
)


@pytest.fixture
def use(monkeypatch) -> Iterator[Callable[[Decoder], Decoder]]:
    """Let `build_block` use this decoder."""
    used = []

    def take(decoder: Decoder) -> Decoder:
        used.append(decoder)
        monkeypatch.setattr(decoder_module, "process_decoder", lambda decode: decoder)
        return decoder

    yield take
    for decoder in used:
        decoder.close()


def same_but(block: dict[str, Any], expected: dict[str, Any], *samples: int) -> bool:
    others = ~np.isin(expected["sample"], samples)
    return all(np.array_equal(block[key], expected[key]) for key in ("sample", "epoch", "keep")) and all(
        np.array_equal(block[key][others], expected[key][others]) for key in ("clips", "label")
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_decoder_that_is_killed_or_stopped_in_mid_block_changes_nothing(clips, use, monkeypatch, how):
    monkeypatch.setattr(decoder_module, "_LOOK_SECONDS", 0.1)
    expected = build_block(0, clips, SPEC)
    decoder = use(Decoder())
    build_block(0, clips, SPEC)
    victim, blocks = decoder.pid, []
    thread = threading.Thread(target=lambda: blocks.append(build_block(0, clips, SPEC)))
    assert victim is not None
    before = cpu_seconds(victim)
    thread.start()
    while cpu_seconds(victim) == before and thread.is_alive():  # until it has begun
        time.sleep(0.001)
    assert thread.is_alive()
    os.kill(victim, how)
    thread.join()
    assert decoder.pid != victim
    [block] = blocks
    assert block["faults"] == []
    assert same_but(block, expected)


def test_a_codec_that_hangs_costs_one_sample_which_is_replaced_by_the_same_one_each_time(
    tmp_path, clips, use, monkeypatch
):
    monkeypatch.setattr(decoder_module, "_LOOK_SECONDS", 0.1)
    expected = build_block(0, clips, SPEC)
    [bad] = clips.rows(np.array([7]))
    content = Path(bad.uri).read_bytes()
    Path(bad.uri).write_bytes(b"hang")
    try:
        use(Decoder(hang_at_a_marked_file))
        first = build_block(0, clips, SPEC)
        use(Decoder(hang_at_a_marked_file))
        second = build_block(0, clips, SPEC)
    finally:
        Path(bad.uri).write_bytes(content)
    [fault] = first["faults"]
    assert (fault.sample, fault.reason) == (7, "the decoder hung: it slept for 0.6 s")
    assert same_but(first, expected, 7)
    assert second["faults"] == first["faults"]
    assert same_but(second, first)
