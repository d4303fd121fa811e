"""Many heads in one pass: what is chosen, on what, and what is counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mae_dist.config.duration import Duration
from mae_dist.config.probing import HeadsConfig
from mae_dist.evaluate import probing
from mae_dist.evaluate.heads import LinearHeads
from mae_dist.evaluate.probing import score_head, train_heads, validation_accuracies
from mae_dist.evaluate.windows import Windows
from tests.evaluate.kept import NUM_CLASSES, kept_features

CPU = torch.device("cpu")
VIEWS = 2
CONFIG = HeadsConfig(length=Duration(6, "epochs"), batch=16, base_lrs=(0.0, 2.0))
HELD_OUT = np.arange(60) % 4 == 0


@pytest.fixture
def trained(tmp_path):
    """(heads, training features) after six epochs on three quarters of them."""
    features = kept_features(f"{tmp_path}/train", views=VIEWS)
    heads = LinearHeads(["1.mean", "2.mean"], 8, NUM_CLASSES, CONFIG, seed=3, device=CPU)
    seen = []
    steps = train_heads(
        heads,
        windows(features, ~HELD_OUT),
        CONFIG,
        num_rows=45 * VIEWS,
        seed=0,
        show=lambda *what: seen.append(what),
    )
    assert steps == seen[-1][0] == seen[-1][1] == 34  # 6 epochs of 90 rows in batches of 16
    assert seen[-1][2] < seen[0][2]
    return heads, features


def windows(features, wanted=None) -> Windows:
    return Windows(features, memory_gb=1.0, device=CPU, wanted=wanted)


def test_the_head_that_learned_more_is_better_on_what_was_held_out(trained):
    heads, features = trained
    shares = validation_accuracies(heads, windows(features, HELD_OUT), views=VIEWS)
    assert len(shares) == 4
    assert min(shares[1], shares[3]) > max(shares[0], shares[2])


@pytest.mark.parametrize("at_once", [1, 1 << 25])
def test_a_sample_answers_with_the_mean_over_its_views_however_many_are_scored_at_once(
    trained, tmp_path, monkeypatch, at_once
):
    heads, _ = trained
    monkeypatch.setattr(probing, "_NUMBERS", at_once)
    test = kept_features(f"{tmp_path}/test", views=VIEWS, seed=7)
    counts = score_head(heads, 3, windows(test), views=VIEWS, num_classes=NUM_CLASSES)
    [rows] = windows(test).in_order()
    answers = heads.logits(rows)[:, 3].softmax(-1).unflatten(0, (-1, VIEWS)).mean(1).argmax(-1)
    assert counts["correct"].sum() == (answers == rows["label"][::VIEWS]).sum()
    assert counts["total"].tolist() == [12] * NUM_CLASSES
    shares = validation_accuracies(heads, windows(test), views=VIEWS)
    assert shares[3] == pytest.approx(float(counts["correct"].sum()) / 60)


def test_the_same_heads_come_out_again(trained, tmp_path):
    heads, features = trained
    again = LinearHeads(["1.mean", "2.mean"], 8, NUM_CLASSES, CONFIG, seed=3, device=CPU)
    train_heads(again, windows(features, ~HELD_OUT), CONFIG, num_rows=45 * VIEWS, seed=0)
    assert torch.equal(again.weight_FRCD, heads.weight_FRCD)
