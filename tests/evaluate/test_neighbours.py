"""Votes of the nearest, beside ten lines of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mae_dist.evaluate import neighbours
from mae_dist.evaluate.neighbours import nearest, score_neighbours
from mae_dist.evaluate.windows import GIGABYTE, Windows
from tests.evaluate.kept import NUM_CLASSES, kept_features

NAME = "1.mean"


def in_numpy(bank, bank_labels, queries, k: int, temperature: float) -> np.ndarray:
    """Shares of the votes, (Q, C)."""
    bank = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    votes = np.zeros((len(queries), NUM_CLASSES))
    for number, query in enumerate(queries):
        similarity = bank @ query
        for near in np.argsort(-similarity)[:k]:
            votes[number, bank_labels[near]] += np.exp(similarity[near] / temperature)
    return votes / votes.sum(axis=1, keepdims=True)


def windows(features, *, blocks=None) -> Windows:
    bound = 1.0 if blocks is None else (blocks + 0.5) * features.records()[0].size / GIGABYTE
    return Windows(features, memory_gb=bound, device=torch.device("cpu"))


def directions(rows) -> torch.Tensor:
    return torch.nn.functional.normalize(rows[NAME].float(), dim=-1)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (10, 0.07), (20, 0.5), (200, 0.07)])
def test_votes_equal_those_of_ten_lines(tmp_path, k, temperature):
    bank, queries = kept_features(f"{tmp_path}/bank"), kept_features(f"{tmp_path}/test", seed=5)
    [rows], [asked] = windows(bank).in_order(), windows(queries).in_order()
    found = nearest(directions(asked), directions(rows), rows["label"], k)
    votes = found.votes(k, temperature=temperature, num_classes=NUM_CLASSES)
    expected = in_numpy(rows[NAME].numpy(), rows["label"].numpy(), asked[NAME].numpy(), k, temperature)
    assert votes.numpy() == pytest.approx(expected, abs=1e-5)


def test_a_tiny_temperature_overflows_nothing(tmp_path):
    [rows] = windows(kept_features(str(tmp_path))).in_order()
    found = nearest(directions(rows), directions(rows), rows["label"], 5)
    votes = found.votes(5, temperature=1e-4, num_classes=NUM_CLASSES)
    assert votes.argmax(1).tolist() == rows["label"].tolist()  # each is its own nearest


def scored(bank: Windows, queries: Windows, *, views: int = 1) -> dict:
    return score_neighbours(
        queries,
        bank,
        names=["1.mean", "2.mean"],
        neighbours=[1, 20],
        temperature=0.07,
        query_views=views,
        bank_views=views,
        num_classes=NUM_CLASSES,
    )


def test_the_counts_are_those_of_the_votes_for_every_layer_and_k(tmp_path):
    bank, queries = kept_features(f"{tmp_path}/bank"), kept_features(f"{tmp_path}/test", seed=5)
    [rows], [asked] = windows(bank).in_order(), windows(queries).in_order()
    found = scored(windows(bank), windows(queries))
    assert sorted(found) == [("1.mean", 1), ("1.mean", 20), ("2.mean", 1), ("2.mean", 20)]
    for (name, k), counts in found.items():
        answers = in_numpy(rows[name].numpy(), rows["label"].numpy(), asked[name].numpy(), k, 0.07).argmax(1)
        right = answers == asked["label"].numpy()
        expected = np.bincount(asked["label"].numpy()[right], minlength=NUM_CLASSES)
        assert counts["correct"].tolist() == expected.tolist()
        assert counts["total"].tolist() == [12] * NUM_CLASSES


@pytest.mark.parametrize(("queries_at_once", "bank_at_once"), [(4, 11), (1, 1)])
def test_what_is_in_memory_at_once_changes_nothing(tmp_path, monkeypatch, queries_at_once, bank_at_once):
    bank, queries = (kept_features(f"{tmp_path}/{seed}", seed=seed, views=2) for seed in (0, 5))
    whole = scored(windows(bank), windows(queries), views=2)
    monkeypatch.setattr(neighbours, "QUERIES", queries_at_once)
    monkeypatch.setattr(neighbours, "BANK", bank_at_once)
    parts = scored(windows(bank, blocks=2), windows(queries, blocks=1), views=2)
    for tried, counts in whole.items():
        for name, values in counts.items():
            assert parts[tried][name].tolist() == values.tolist(), (tried, name)


def test_a_sample_answers_with_the_mean_over_its_views(tmp_path):
    bank, queries = (kept_features(f"{tmp_path}/{seed}", seed=seed, views=3) for seed in (0, 5))
    counts = scored(windows(bank), windows(queries), views=3)["1.mean", 20]
    assert counts["total"].sum() == 60
    [rows], [asked] = windows(bank).in_order(), windows(queries).in_order()
    of_samples = torch.nn.functional.normalize(directions(rows).unflatten(0, (-1, 3)).mean(1), dim=-1)
    votes = in_numpy(of_samples.numpy(), rows["label"][::3].numpy(), asked[NAME].numpy(), 20, 0.07)
    answers = votes.reshape(60, 3, NUM_CLASSES).mean(1).argmax(1)
    assert counts["correct"].sum() == (answers == asked["label"][::3].numpy()).sum()
