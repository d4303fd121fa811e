"""Work that is spread over the cluster: all results, the first error, and an early end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def spread(ray_cluster):
    from mae_dist.data.spread import spread

    return spread


def test_every_item_gives_its_result_once(spread):
    assert sorted(spread(lambda number: number * number, range(100))) == [n * n for n in range(100)]


def test_no_items_give_no_results(spread):
    assert list(spread(lambda number: number, [])) == []


def test_an_error_rises_as_itself_with_the_trace_of_where_it_was_raised(spread):
    def fail_at_seven(number: int) -> int:
        if number == 7:
            raise LookupError("seven is missing")
        return number

    with pytest.raises(LookupError, match=r"^seven is missing$") as caught:
        list(spread(fail_at_seven, range(20)))
    assert "in fail_at_seven" in str(caught.value.__cause__)


def test_no_more_is_begun_than_the_cluster_has_room_for(spread, tmp_path):
    """Items behind the one that was taken last are not all in the cluster already."""

    def touch(number: int) -> int:
        (tmp_path / str(number)).touch()
        return number

    results = spread(touch, range(10_000))
    next(results)
    assert len(list(tmp_path.iterdir())) < 50
    results.close()


def test_who_stops_early_leaves_nothing_running(spread, tmp_path):
    """What runs is interrupted as by Ctrl-C, so that it can clean up."""

    def work(number: int) -> None:
        if number == 0:
            wait_for(tmp_path, "begun", 3)
            return
        try:
            (tmp_path / f"{number}.begun").touch()
            wait_for(tmp_path, "never", 1)
        finally:
            (tmp_path / f"{number}.ended").touch()

    results = spread(work, range(4))
    next(results)
    results.close()
    wait_for(tmp_path, "ended", 3)


def wait_for(folder: Path, ending: str, count: int) -> None:
    for _ in range(600):
        if len([*folder.glob(f"*.{ending}")]) == count:
            return
        time.sleep(0.1)
    raise TimeoutError(sorted(path.name for path in folder.iterdir()))
