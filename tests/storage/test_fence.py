"""What a replaced driver publishes is there before the later one looks, or never."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mae_dist import storage
from mae_dist.storage.fence import Fence, FencedOffError, latest_token

OPERATIONS = ("create_exclusive", "write_bytes", "list_dir", "read_json", "exists", "delete")


class Died(BaseException):
    """Ends a driver at a chosen request."""


def driver(run: str, token: int) -> Fence:
    """Driver `token`, who has taken over."""
    fence = Fence(storage.join(run, "drivers"), token)
    assert storage.create_exclusive(fence.file, b"{}")
    fence.settle()
    return fence


@pytest.fixture
def run(tmp_path) -> str:
    (tmp_path / "step").mkdir()
    return str(tmp_path)


def test_the_latest_driver_creates_a_file_once(run):
    fence = driver(run, 1)
    file = storage.join(run, "step", "COMPLETE")
    assert fence.create(file, b"first")
    assert not fence.create(file, b"second")
    assert storage.read_bytes(file) == b"first"
    fence.write(file, b"third")
    assert storage.read_bytes(file) == b"third"
    assert storage.list_dir(fence.uri) == ["000001.json", "000001.settled"]


def test_a_driver_that_was_replaced_is_told_by_whom_and_leaves_nothing(run):
    stale = driver(run, 1)
    driver(run, 2)
    file = storage.join(run, "step", "COMPLETE")
    for publish in (stale.create, stale.write):
        with pytest.raises(FencedOffError, match="driver 2 has taken over from driver 1, which"):
            publish(file, b"stale")
    assert not storage.exists(file)
    assert storage.list_dir(stale.uri) == ["000001.json", "000002.json", "000002.settled"]


def announce(fence: Fence, file: str, monkeypatch) -> None:
    """The driver dies right after it has said what it was about to create."""

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(Fence, "check", die)
        patch.setattr(storage, "delete", die)
        with pytest.raises(Died):
            fence.create(file, b"whole")


def test_what_a_driver_had_announced_when_it_died_is_published_by_the_next(run, monkeypatch):
    file = storage.join(run, "step", "COMPLETE")
    announce(driver(run, 1), file, monkeypatch)
    assert not storage.exists(file)
    driver(run, 2)
    assert storage.read_bytes(file) == b"whole"


def test_what_a_replaced_driver_announces_is_not_published_by_the_driver_after_next(run, monkeypatch):
    file = storage.join(run, "step", "COMPLETE")
    stale = driver(run, 1)
    driver(run, 2)
    announce(stale, file, monkeypatch)
    driver(run, 3)
    assert not storage.exists(file)
    assert not [name for name in storage.list_dir(stale.uri) if name.startswith("000001-")]


def test_what_was_announced_for_a_folder_that_is_gone_is_dropped(run, monkeypatch):
    announce(driver(run, 1), storage.join(run, "step", "COMPLETE"), monkeypatch)
    storage.delete_tree(storage.join(run, "step"))
    driver(run, 2)
    assert not storage.exists(storage.join(run, "step"))


def test_a_run_that_was_moved_is_settled_where_it_is(tmp_path, monkeypatch):
    (tmp_path / "before" / "step").mkdir(parents=True)
    announce(driver(str(tmp_path / "before"), 1), str(tmp_path / "before" / "step" / "COMPLETE"), monkeypatch)
    (tmp_path / "before").rename(tmp_path / "after")
    driver(str(tmp_path / "after"), 2)
    assert (tmp_path / "after" / "step" / "COMPLETE").read_bytes() == b"whole"
    assert not (tmp_path / "before").exists()


def test_a_driver_that_dies_anywhere_while_taking_over_is_no_loss(tmp_path, monkeypatch):
    for point in itertools.count():
        run = str(tmp_path / str(point))
        (tmp_path / str(point) / "step").mkdir(parents=True)
        file = storage.join(run, "step", "COMPLETE")
        announce(driver(run, 1), file, monkeypatch)
        left = point

        def before_each() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Died

        with monkeypatch.context() as patch:
            intercept(patch, before_each)
            try:
                driver(run, 2)
            except Died:
                pass
            else:
                break
        driver(run, latest_token(storage.join(run, "drivers")) + 1)
        assert storage.read_bytes(file) == b"whole"
    assert point > 6


def intercept(patch, before_each: Callable[[], None]) -> None:
    """Have `before_each` called before every request to storage."""

    def intercepted(original: Callable[..., Any]) -> Callable[..., Any]:
        def request(*arguments: Any) -> Any:
            before_each()
            return original(*arguments)

        return request

    for name in OPERATIONS:
        patch.setattr(storage, name, intercepted(getattr(storage, name)))


class Turns:
    """Lets two threads make their requests in a given order; who has ended lets the other one go on."""

    def __init__(self, order: str) -> None:
        self._order, self._changed, self._ended = list(order), threading.Condition(), set[str]()

    def wait(self) -> None:
        me = threading.current_thread().name
        with self._changed:
            assert self._changed.wait_for(lambda: self._next() in (me, None), 20)
            if self._order:
                self._order.pop(0)
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended.add(threading.current_thread().name)
            self._changed.notify_all()

    def _next(self) -> str | None:
        while self._order and self._order[0] in self._ended:
            self._order.pop(0)
        return self._order[0] if self._order else None


PUBLISH, TAKE_OVER = 4, 9
"""Requests of each side at most; the last one of who takes over is its first look at the run."""


def test_in_every_order_of_the_requests_a_file_appears_before_the_new_driver_looks_or_never(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power cut is tested here
    outcomes = set()
    for number, stale_turns in enumerate(itertools.combinations(range(PUBLISH + TAKE_OVER), PUBLISH)):
        order = "".join("s" if turn in stale_turns else "n" for turn in range(PUBLISH + TAKE_OVER))
        run = str(tmp_path / str(number))
        (tmp_path / str(number) / "step").mkdir(parents=True)
        file = storage.join(run, "step", "COMPLETE")
        stale, turns, found = driver(run, 1), Turns(order), {}

        def publish(stale=stale, file=file, turns=turns, found=found) -> None:
            try:
                found["published"] = stale.create(file, b"whole")
            except FencedOffError:
                found["published"] = False
            finally:
                turns.end()

        def take_over(run=run, file=file, turns=turns, found=found) -> None:
            driver(run, 2)
            found["seen"] = storage.exists(file)
            turns.end()

        threads = [threading.Thread(target=publish, name="s"), threading.Thread(target=take_over, name="n")]
        with monkeypatch.context() as patch:
            intercept(patch, turns.wait)
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert storage.exists(file) == found["seen"], order
        assert found["seen"] or not found["published"], order
        outcomes.add((found["published"], found["seen"]))
    assert outcomes == {(True, True), (False, True), (False, False)}
