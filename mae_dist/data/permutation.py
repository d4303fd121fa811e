"""Permutations of ranges that are computed element by element and never stored.

They are Feistel networks, made to fit domains that are no power of two by walking along their cycles (Black
and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
"""

from __future__ import annotations

import numpy as np

_ROUNDS = 6
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def scramble(values: np.ndarray | np.uint64) -> np.ndarray:
    """Scramble 64-bit words (the finaliser of SplitMix64, Steele et al. 2014); a bijection."""
    words = np.atleast_1d(np.asarray(values, dtype=np.uint64)) + _GOLDEN
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words if np.ndim(values) else words[0]


def permute(
    values: np.ndarray, sizes: np.ndarray | int, keys: np.ndarray, *, inverse: bool = False
) -> np.ndarray:
    """Where the permutation of range(size) named by `key` sends each value, elementwise, as int64.

    A Feistel network permutes the smallest even power of two that holds the domain (at most four times its
    size); an element that leaves the domain is sent on until it is back inside, which takes few rounds.
    """
    shape = np.shape(values)
    sizes = np.broadcast_to(np.asarray(sizes, dtype=np.uint64), shape).reshape(-1)
    keys = np.broadcast_to(keys, shape).reshape(-1)
    result = np.array(values, dtype=np.uint64).reshape(-1)
    # frexp gives the bit length of size - 1; exact below 2^53.
    half_bits = ((np.frexp((sizes - np.uint64(1)).astype(np.float64))[1] + 1) // 2).astype(np.uint64)
    todo = np.arange(result.size)
    while todo.size:
        result[todo] = _feistel(result[todo], half_bits[todo], keys[todo], inverse=inverse)
        todo = todo[result[todo] >= sizes[todo]]
    return result.astype(np.int64).reshape(shape)


def _feistel(values: np.ndarray, half_bits: np.ndarray, keys: np.ndarray, *, inverse: bool) -> np.ndarray:
    """A balanced Feistel network over words of 2 * half_bits bits."""
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    for step in reversed(range(_ROUNDS)) if inverse else range(_ROUNDS):
        if inverse:
            left, right = right, left
        round_key = np.uint64((step + 1) << 48)
        left, right = right, left ^ (scramble(keys ^ scramble(right + round_key)) & mask)
        if inverse:
            left, right = right, left
    return (left << half_bits) | right
