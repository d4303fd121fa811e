"""Whether a driver lives, to someone who only reads."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mae_dist.orchestrate import pulse
from mae_dist.orchestrate.pulse import BEAT_SECONDS, SILENT_BEATS, Pulse
from mae_dist.orchestrate.store import DriverLock
from tests.cli.followed_run import FollowedRun


@pytest.fixture
def clock(monkeypatch):
    """The only clock that a look reads, set by the test."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_run_that_nobody_has_driven_has_no_driver(tmp_path):
    assert Pulse(str(tmp_path)).look().life == "none"


def test_a_driver_of_this_machine_lives_until_it_has_ended(tmp_path):
    pulse = Pulse(str(tmp_path))
    with DriverLock(str(tmp_path)):
        assert (pulse.look().life, pulse.look().number) == ("alive", 1)
    assert pulse.look().life == "ended"


def test_a_driver_of_this_machine_whose_process_is_not_there_is_gone_at_once(tmp_path):
    FollowedRun(str(tmp_path)).write_driver("gone")
    assert Pulse(str(tmp_path)).look().life == "gone"


def test_a_driver_elsewhere_is_listened_to_until_its_beat_moves(root, clock):
    run, pulse = FollowedRun(root), Pulse(root)
    run.write_driver("elsewhere", beat=3)
    assert pulse.look().life == "listening"
    clock.now += BEAT_SECONDS
    run.write_driver("elsewhere", beat=4)
    assert pulse.look().life == "alive"


def test_a_driver_elsewhere_is_gone_when_its_beat_has_stood_still_and_back_when_it_moves(tmp_path, clock):
    run, pulse = FollowedRun(str(tmp_path)), Pulse(str(tmp_path))
    run.write_driver("elsewhere", beat=3)
    assert pulse.look().life == "listening"
    clock.now += SILENT_BEATS * BEAT_SECONDS
    assert pulse.look().life == "listening"
    clock.now += 1
    assert pulse.look().life == "gone"
    run.write_driver("elsewhere", beat=4)
    assert pulse.look().life == "alive"


def test_a_driver_that_takes_over_elsewhere_is_listened_to_anew(tmp_path, clock):
    run, pulse = FollowedRun(str(tmp_path)), Pulse(str(tmp_path))
    run.write_driver("elsewhere", beat=3)
    clock.now += SILENT_BEATS * BEAT_SECONDS + 1
    pulse.look()
    run.write_driver("elsewhere", number=2, beat=9)
    driver = pulse.look()
    assert (driver.life, driver.number) == ("listening", 2)
