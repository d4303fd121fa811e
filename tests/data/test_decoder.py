"""The decoding process: whatever happens in it costs one sample at most, and the reason is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from mae_dist.config.limits import DecodeLimits
from mae_dist.config.schema import AugmentConfig, InputConfig
from mae_dist.data import decoder as decoder_module
from mae_dist.data.decoder import Decoder, DecoderError
from mae_dist.data.limits import DecodeError
from mae_dist.data.views import Request, ViewSpec, decode_views
from tests.faults.codecs import misbehave

SIZE = InputConfig(frames=2, height=16, width=16)


def spec(**limits) -> ViewSpec:
    return ViewSpec(seed=0, input=SIZE, augment=AugmentConfig(), limits=DecodeLimits(**limits))


def request(what: str) -> Request:
    return Request(what.encode(), "image", 0, (0,))


def empty(num_samples: int) -> np.ndarray:
    return np.zeros((num_samples, 1, SIZE.frames, SIZE.height, SIZE.width, 3), dtype=np.uint8)


def decode(decoder: Decoder, *whats: str | DecodeError, **limits) -> list[int | str]:
    """For each sample the value of its pixels, or the reason why there are none."""
    pixels = empty(len(whats))
    items = [what if isinstance(what, DecodeError) else request(what) for what in whats]
    outcomes = decoder.decode(items, spec(**limits), pixels)
    return [
        int(values.max()) if error is None else str(error)
        for values, error in zip(pixels, outcomes, strict=True)
    ]


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(misbehave)
    yield decoder
    decoder.close()


@pytest.fixture
def impatient(monkeypatch) -> None:
    """A sleeping child is noticed in a third of a second."""
    monkeypatch.setattr(decoder_module, "_LOOK_SECONDS", 0.05)


def test_the_child_gives_the_pixels_that_decoding_here_gives(make_image, make_video):
    samples = [
        Request(make_image(1), "image", 1, (0, 1, 2)),
        Request(make_video(), "video", 2, (3, 4, 5)),
        Request(make_image(3, format="JPEG"), "image", 3, (0, 1, 2)),
    ]
    here = np.zeros((3, 3, SIZE.frames, SIZE.height, SIZE.width, 3), dtype=np.uint8)
    there = here.copy()
    for sample, views in zip(samples, here, strict=True):
        decode_views(sample, spec(), views)
    decoder = Decoder()
    assert decoder.decode(samples, spec(), there) == [None] * 3
    decoder.close()
    assert (here == there).all()
    assert len({views.tobytes() for views in here.reshape(9, -1)}) == 9


def test_many_samples_of_any_size_come_back_in_order(decoder):
    whats = [f"pixels {number % 200}" + " " * (30_000 * (number % 7)) for number in range(600)]
    assert decode(decoder, *whats) == [number % 200 for number in range(600)]
    [big] = decode(decoder, "pixels 5" + " " * (40 << 20))
    assert big == 5
    assert decode(decoder, "pixels 6") == [6]


def test_a_refused_sample_has_its_reason_and_the_others_their_pixels(decoder):
    missing = DecodeError("the file is missing")
    outcomes = decode(decoder, "pixels 1", "refuse too dark", missing, "pixels 2")
    assert outcomes == [1, "too dark", "the file is missing", 2]


@pytest.mark.parametrize(
    ("mishap", "limits", "reason"),
    [
        ("sleep", {}, "the decoder hung: it slept for 0.3 s"),
        ("burn", {"seconds": 0.2}, "decoding took more than 0.2 s of CPU time"),
        ("crash", {}, "the decoder crashed, by SIGABRT"),
        ("grow", {"memory": 64 << 20}, "decoding takes more than 67,108,864 bytes of memory"),
    ],
)
def test_a_mishap_costs_its_own_sample_alone(decoder, impatient, mishap, limits, reason):
    outcomes = decode(decoder, "pixels 1", "refuse it", mishap, "pixels 2", mishap, "pixels 3", **limits)
    assert outcomes == [1, "it", reason, 2, reason, 3]


def test_a_child_that_was_killed_from_outside_costs_nothing(decoder, tmp_path):
    assert decode(decoder, "pixels 1", f"crash-once {tmp_path}/a", "pixels 2") == [1, 9, 2]
    os.kill(decoder.pid, signal.SIGKILL)  # between two groups
    assert decode(decoder, "pixels 3") == [3]


def test_a_mistake_of_ours_is_an_error_and_no_fault(decoder):
    with pytest.raises(DecoderError, match=r"(?s)not the sample's.*KeyError: 'oops'"):
        decode(decoder, "pixels 1", "bug oops")
    assert decode(decoder, "pixels 1") == [1]


def test_what_cannot_be_prepared_is_told_with_its_cause():
    wrong = ViewSpec(seed=0, input=SIZE, augment=AugmentConfig(rand_augment="randd"))
    decoder = Decoder()
    with pytest.raises(DecoderError, match=r"(?s)cannot be prepared.*timm reads strings like .*got 'randd'"):
        decoder.decode([request("x")], wrong, empty(1))
    decoder.close()


def test_a_child_that_cannot_start_is_told(monkeypatch):
    monkeypatch.setattr(decoder_module, "_MAIN", "raise SystemExit(3)")
    with pytest.raises(DecoderError, match=r"ended before it was ready \(exit code 3\)"):
        decode(Decoder(misbehave), "pixels 1")


def test_other_threads_run_while_a_sample_is_decoded(decoder):
    """The codec's one call takes half a second of CPU time, during which this thread counts."""
    found = []
    thread = threading.Thread(target=lambda: found.extend(decode(decoder, "burn", seconds=0.4)))
    thread.start()
    turns = 0
    while thread.is_alive():
        time.sleep(0.001)
        turns += 1
    assert found == ["decoding took more than 0.4 s of CPU time"]
    assert turns > 20


def test_the_child_goes_when_its_parent_is_killed():
    """Even in the middle of a codec that never returns, and though the thread that started it is gone."""
    code = (
        "import threading, time; from tests.data.test_decoder import *\n"
        "d = Decoder(misbehave)\n"
        "start = threading.Thread(target=decode, args=(d, 'pixels 1')); start.start(); start.join()\n"
        "threading.Thread(target=decode, args=(d, 'burn'), daemon=True).start()\n"
        "time.sleep(0.5); print(d.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.kill()
    for _ in range(1000):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("the child outlives its parent")
