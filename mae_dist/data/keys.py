"""Randomness that belongs to a sample, never to a worker or to the time.

Every draw is keyed by (seed, epoch, sample, purpose). Purposes ("frames", "crop", "mask", ...) have streams
of their own, so that a draw added for one of them does not shift the others.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np


def rng(seed: int, epoch: int, sample: int, purpose: str) -> np.random.Generator:
    """The generator of one sample for one purpose; all numbers non-negative."""
    return np.random.default_rng([seed, epoch, sample, _word(purpose)])


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed `random` and `numpy.random` inside the block and put their states back after it.

    For libraries that draw from the global generators (timm's RandAugment and Mixup). Not for two threads of
    one process at the same time: the generators are global. `seed` lies in [0, 2^32).
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@cache
def _word(purpose: str) -> int:
    """A name as a number that is the same in every process (unlike `hash`)."""
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "little")
