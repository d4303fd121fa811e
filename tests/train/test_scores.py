"""Counts of answers add up, and mistakes are counted as pairs of classes."""

from __future__ import annotations

import pytest
import torch

from mae_dist.train import scores
from mae_dist.train.scores import added, count_answers, most_frequent_mistakes, no_answers, plain

CPU = torch.device("cpu")


def answers(*predicted: int, num_classes: int = 3) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predicted), num_classes)[:, None].float()


def counted(predicted, labels, counts=None, **options) -> scores.Scores:
    labels = torch.tensor(labels)
    counts = torch.ones_like(labels, dtype=torch.bool) if counts is None else torch.tensor(counts)
    return count_answers(answers(*predicted, **options), labels, counts)


def test_the_confusion_has_labels_in_rows_and_answers_in_columns():
    found = counted([0, 2, 2, 1], [0, 0, 0, 2])
    assert found["confusion"].tolist() == [[1, 0, 2], [0, 0, 0], [0, 1, 0]]


def test_rows_that_do_not_count_are_not_confused():
    found = counted([0, 2], [0, 0], [True, False])
    assert found["confusion"].sum() == found["total"].sum() == 1


def test_the_confusion_of_several_views_is_that_of_their_mean():
    views = torch.tensor([[[0.9, 0.1, 0.0], [0.0, 0.5, 0.5]]])
    found = count_answers(views, torch.tensor([2]), torch.tensor([True]))
    assert found["confusion"][2].tolist() == [1, 0, 0]


def test_the_diagonal_is_what_is_right_and_rows_are_all_samples():
    torch.manual_seed(0)
    labels = torch.randint(7, (50,))
    found = count_answers(torch.rand(50, 2, 7), labels, torch.rand(50) > 0.2)
    assert torch.equal(found["confusion"].diagonal(), found["correct"])
    assert torch.equal(found["confusion"].sum(dim=1), found["total"])


def test_counts_of_parts_add_up_to_those_of_the_whole():
    whole = counted([0, 1, 2, 0], [0, 2, 2, 1])
    parts = added(added(no_answers(3, CPU), counted([0, 1], [0, 2])), counted([2, 0], [2, 1]))
    assert whole.keys() == parts.keys()
    for name, values in whole.items():
        assert torch.equal(values, parts[name]), name


def test_the_most_frequent_mistakes_come_first_and_right_answers_are_none():
    confusion = torch.tensor([[9.0, 1, 4], [0, 7, 0], [4, 2, 3]])
    assert most_frequent_mistakes(confusion) == [[0, 2, 4], [2, 0, 4], [2, 1, 2], [0, 1, 1]]


def test_only_so_many_mistakes_are_told():
    confusion = torch.arange(400.0).reshape(20, 20)
    found = most_frequent_mistakes(confusion)
    assert len(found) == scores.NUM_MISTAKES
    assert found[0] == [19, 18, 398]


@pytest.mark.parametrize(("num_classes", "known"), [(3, True), (4, False)])
def test_too_many_classes_are_not_confused_but_counted(monkeypatch, num_classes, known):
    monkeypatch.setattr(scores, "CONFUSED_CLASSES", 3)
    found = plain(counted([0, 2], [0, 0], num_classes=num_classes))
    assert found["mistakes"] == ([[0, 2, 1]] if known else None)
    assert found["total"] == [2.0] + [0.0] * (num_classes - 1)
