"""Two ranks for all tests of training: processes that stay, as starting them is what takes the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.ranks import Ranks


@pytest.fixture(scope="session")
def two_ranks() -> Iterator[Callable[..., list[Any]]]:
    """`two_ranks(function, ...)` is `Ranks.run` on two of them; after a failure on new ones.

    What a function changes in a module is there for the next one too, so it has to put it back.
    """
    ranks = Ranks(2)

    def run(function: Callable[..., Any], *arguments: Any) -> list[Any]:
        nonlocal ranks
        if not ranks.is_whole:
            ranks.__exit__()
            ranks = Ranks(2)
        return ranks.run(function, *arguments)

    yield run
    ranks.__exit__()
