"""What is done stays done, and one driver writes at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from mae_dist.orchestrate.step import Step
from mae_dist.orchestrate.store import DriverLock, RunLockedError, RunStore


def step(name="probe", identity="a", **options) -> Step:
    def nothing(config, output, inputs):
        return {}

    return Step(
        name=name, run=nothing, config=None, identity=identity, output=f"evaluations/{name}", **options
    )


def test_equal_steps_have_equal_keys_and_changed_ones_do_not():
    assert step().key == step().key
    assert step().key != step(identity="b").key


def test_a_changed_step_changes_the_keys_of_those_that_need_it_but_not_of_those_that_only_come_after():
    first, changed = step("pretrain", "a"), step("pretrain", "b")
    assert step(needs=(first,)).key != step(needs=(changed,)).key
    assert step(after=(first,)).key == step(after=(changed,)).key


def test_only_a_finished_step_of_the_same_key_is_done(tmp_path):
    store = RunStore(str(tmp_path))
    assert not store.is_done(step())
    store.fail(step(), seconds=1.0, reason="out of memory")
    assert not store.is_done(step())
    store.finish(step(), seconds=1.0, summary={"top1": 3})
    assert store.is_done(step())
    assert not store.is_done(step(identity="b"))


@pytest.mark.parametrize("is_finished", [True, False])
def test_what_a_step_of_another_key_left_is_cleared_and_of_the_same_key_is_not(tmp_path, is_finished):
    store = RunStore(str(tmp_path))
    store.begin(step())
    if is_finished:
        store.finish(step(), seconds=1.0, summary={})
    file = tmp_path / "evaluations" / "probe" / "checkpoints"
    file.write_text("of the first key")
    store.begin(step())
    assert file.exists()
    store.begin(step(identity="b"))
    assert not file.exists()


def test_a_second_driver_is_refused_with_the_name_of_the_first(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "holding\n"
        with pytest.raises(RunLockedError, match=f"another driver works on this run: process {holder.pid} "):
            DriverLock(str(tmp_path)).__enter__()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with DriverLock(str(tmp_path)):
            content = json.loads((tmp_path / "driver.lock").read_text())
            assert content["pid"] == os.getpid()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert not (tmp_path / "driver.lock").exists()


_HOLD = """
import sys, time
from mae_dist.orchestrate.store import DriverLock
with DriverLock(sys.argv[1]):
    print("holding", flush=True)
    time.sleep(60)
"""
