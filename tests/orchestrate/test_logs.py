"""A step's log is where its results are, on a disk and in a bucket."""

from __future__ import annotations

import pytest

from mae_dist import storage
from mae_dist.orchestrate import logs
from mae_dist.orchestrate.logs import StepLog


def text(output: str) -> str:
    return storage.read_bytes(storage.join(output, "log.txt")).decode()


def test_what_a_process_and_the_driver_say_is_found_in_the_steps_folder(root):
    log = StepLog(storage.join(root, "log.txt"))
    log.say("attempt 1")
    with open(log.file, "a") as printed_by_the_step:
        printed_by_the_step.write("hello\n")
    log.publish(at_once=True)
    first, second = text(root).splitlines()
    assert first.endswith(" UTC attempt 1")
    assert second == "hello"


def test_a_later_attempt_goes_on_in_the_same_log(root):
    for number in (1, 2):
        log = StepLog(storage.join(root, "log.txt"))
        log.say(f"attempt {number}")
        log.publish(at_once=True)
    assert [line[-9:] for line in text(root).splitlines()] == ["attempt 1", "attempt 2"]


def test_a_copy_is_made_now_and_then_and_has_the_end_of_a_long_log(s3_bucket, monkeypatch):
    monkeypatch.setattr(logs, "CAP_BYTES", 10)
    log = StepLog(storage.join(s3_bucket, "log.txt"))
    log.say("a")
    log.publish()
    assert text(s3_bucket).endswith(" UTC a\n")
    log.say("b")
    log.publish()
    assert text(s3_bucket).endswith(" UTC a\n")
    log.publish(at_once=True)
    assert len(text(s3_bucket)) == 10
    assert text(s3_bucket).endswith(" UTC b\n")


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        ({"step": 3, "total_steps": 9, "text": "train features, block 3/9"}, "train features, block 3/9"),
        ({"step": 3, "total_steps": 9}, None),
    ],
)
def test_progress_is_told_once(tmp_path, progress, said):
    log = StepLog(f"{tmp_path}/log.txt")
    log.say("begins")
    log.follow(progress)
    log.follow(dict(progress))
    log.follow(None)
    lines = [line.partition(" UTC ")[2] for line in text(str(tmp_path)).splitlines()]
    assert lines == ["begins", *([said] if said else [])]
