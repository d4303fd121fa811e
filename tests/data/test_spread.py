"""Work that is spread over the cluster: all of it, but never much at once, until something fails."""

from __future__ import annotations

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
