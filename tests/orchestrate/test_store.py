"""What is done stays done, and one driver writes at a time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mae_dist import storage
from mae_dist.orchestrate.pulse import boot_id
from mae_dist.orchestrate.step import Step
from mae_dist.orchestrate.store import DriverLock, RunLockedError, RunStore
from mae_dist.storage.fence import Fence, FencedOffError


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
            content = json.loads((tmp_path / "drivers" / "000002.json").read_text())
            assert content["pid"] == os.getpid()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert json.loads((tmp_path / "drivers" / "000002.json").read_text())["released"]


@pytest.mark.slow
@pytest.mark.parametrize(("root", "number"), [("path", 50), ("s3", 6)], indirect=["root"])
def test_fifty_submissions_at_once_give_one_driver_and_forty_nine_pointers_to_it(root, number):
    """A dead driver lies in the way, so that all of them want to take over."""
    dead = {"host": socket.gethostname(), "boot": boot_id(), "pid": 2**22 + 1, "process_started": 0.0}
    lock = dead | {"command": "dead", "beat": 0, "released": False}
    storage.write_json(storage.join(root, "drivers", "000001.json"), lock)
    command = [sys.executable, "-m", "tests.orchestrate.submissions", root, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert done.stderr == ""
    answers = json.loads(done.stdout)
    [driver] = [pid for pid, refusal in answers if refusal is None]
    pointers = [refusal for _, refusal in answers if refusal is not None]
    assert len({pid for pid, _ in answers}) == number
    assert len(pointers) == number - 1
    for pointer in pointers:
        assert pointer.startswith(f"{root}: another driver works on this run: process {driver} on ")
        assert f"mae-dist status {root} " in pointer
    names = storage.list_dir(storage.join(root, "drivers"))
    assert names == ["000001.json", "000002.json", "000002.settled"]


def test_a_driver_that_was_replaced_can_mark_nothing_as_done(tmp_path):
    with DriverLock(str(tmp_path)) as stale:
        store = RunStore(str(tmp_path), fence=stale.fence)
        store.begin(step())
        storage.write_bytes(Fence(stale.fence.uri, 2).file, b"{}")
        for write in (lambda: store.finish(step(), seconds=1.0, summary={}), lambda: store.begin(step())):
            with pytest.raises(FencedOffError, match="driver 2 has taken over from driver 1"):
                write()
    assert not store.is_done(step())


_HOLD = """
import sys, time
from mae_dist.orchestrate.store import DriverLock
with DriverLock(sys.argv[1]):
    print("holding", flush=True)
    time.sleep(60)
"""
