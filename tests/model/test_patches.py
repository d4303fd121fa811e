"""Layout of patches, and picking tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mae_dist.config.geometry import Grid
from mae_dist.model.patches import gather_tokens, hidden_ids, patchify, unpatchify

SIDES = st.integers(1, 4)


@given(frames=SIDES, rows=SIDES, columns=SIDES, patch=SIDES, tubelet=SIDES, num_samples=st.integers(1, 2))
def test_unpatchify_undoes_patchify(frames, rows, columns, patch, tubelet, num_samples):
    shape = (num_samples, frames * tubelet, rows * patch, columns * patch, 3)
    clips = torch.randint(0, 256, shape, dtype=torch.uint8)
    patches = patchify(clips, patch=patch, tubelet=tubelet)
    assert patches.dtype == torch.uint8
    assert patches.shape == (num_samples, frames * rows * columns, tubelet * patch * patch * 3)
    grid = Grid(frames=frames, rows=rows, columns=columns)
    assert torch.equal(unpatchify(patches, grid, patch=patch, tubelet=tubelet), clips)


def test_tokens_run_over_time_then_rows_then_columns_and_values_end_with_the_channel():
    clips = torch.arange(4 * 4 * 6 * 3).reshape(1, 4, 4, 6, 3)
    patches = patchify(clips, patch=2, tubelet=2)
    token = 1 * (2 * 3) + 1 * 3 + 2  # second slot, second row, third column
    assert torch.equal(patches[0, token], clips[0, 2:4, 2:4, 4:6].flatten())


@given(st.data())
def test_hidden_ids_are_the_ascending_complement_of_the_kept_ones(data):
    num_tokens = data.draw(st.integers(1, 30))
    num_kept = data.draw(st.integers(0, num_tokens))
    rows = [data.draw(st.permutations(range(num_tokens)))[:num_kept] for _ in range(3)]
    expected = [sorted(set(range(num_tokens)) - set(row)) for row in rows]
    given_keep = torch.tensor(rows, dtype=torch.int64).reshape(3, num_kept)
    hidden = hidden_ids(given_keep, num_tokens)
    assert hidden.dtype == torch.int64
    assert hidden.tolist() == expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_gathered_tokens_are_the_rows_of_each_sample_in_the_order_of_the_ids(dtype):
    x = torch.arange(3 * 5 * 4).reshape(3, 5, 4).to(dtype)
    ids = torch.tensor([[4, 0], [1, 1], [2, 3]])
    gathered = gather_tokens(x, ids)
    assert gathered.dtype == dtype
    np.testing.assert_array_equal(
        gathered.float().numpy(), np.stack([x[b].float()[ids[b]] for b in range(3)])
    )
