"""The order in which heads see features, and how much of them is in memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from mae_dist.evaluate.features import Features
from mae_dist.evaluate.windows import GIGABYTE, Windows
from tests.evaluate.kept import kept_features

CPU = torch.device("cpu")


def windows(features, *, blocks=None, wanted=None) -> Windows:
    """Bounded to so many blocks, or not at all."""
    bound = 1.0 if blocks is None else (blocks + 0.5) * features.records()[0].size / GIGABYTE
    return Windows(features, memory_gb=bound, device=CPU, wanted=wanted)


def seen(given: Windows, num_batches: int, size: int = 16, seed: int = 0) -> list[list[int]]:
    batches = itertools.islice(given.batches(size, seed=seed), num_batches)
    return [batch["sample"].tolist() for batch in batches]


@pytest.mark.parametrize("blocks", [None, 3, 1])
def test_an_epoch_has_every_sample_once_and_no_seam(tmp_path, blocks):
    """60 samples in batches of 16: 15 batches are 4 epochs."""
    order = np.concatenate(seen(windows(kept_features(str(tmp_path)), blocks=blocks), 15))
    for epoch in order.reshape(4, 60):
        assert sorted(epoch.tolist()) == list(range(60))
    assert order[:60].tolist() != order[60:120].tolist() != list(range(60))


@pytest.mark.parametrize("blocks", [None, 3])
def test_the_order_depends_on_the_seed_alone(tmp_path, blocks):
    features = kept_features(str(tmp_path))
    first = seen(windows(features, blocks=blocks), 10)
    assert seen(windows(features, blocks=blocks), 10) == first
    assert seen(windows(features, blocks=blocks), 10, seed=1) != first


def test_rows_keep_their_features_and_labels(tmp_path):
    features = kept_features(str(tmp_path))
    [rows] = windows(features).in_order()
    for batch in itertools.islice(windows(features, blocks=2).batches(16, seed=0), 6):
        assert torch.equal(batch["2.mean"], rows["2.mean"][batch["sample"]])
        assert torch.equal(batch["label"], rows["label"][batch["sample"]])


@pytest.mark.parametrize("blocks", [None, 2])
def test_the_samples_wanted_come_in_order_with_their_views_side_by_side(tmp_path, blocks):
    wanted = np.arange(60) % 3 == 0
    given = windows(kept_features(str(tmp_path), views=2), blocks=blocks, wanted=wanted)
    parts = list(given.in_order())
    rows = [pair for part in parts for pair in torch.stack([part["sample"], part["view"]], 1).tolist()]
    assert rows == [[sample, view] for sample in range(0, 60, 3) for view in range(2)]


def test_no_more_than_the_bound_is_read_at_once_and_what_fits_is_read_once(tmp_path, monkeypatch):
    features, read = kept_features(str(tmp_path)), []
    reader = Features.read
    monkeypatch.setattr(Features, "read", lambda self, group: read.append(len(group)) or reader(self, group))
    seen(windows(features, blocks=4), 4)
    assert max(read) == 4
    read.clear()
    seen(windows(features), 20)
    assert read == [9]
