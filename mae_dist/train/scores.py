"""Counts of right answers by class, and of what others were taken for; they add up over batches and workers.

Letters: S samples, V views of each, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Scores = dict[str, Tensor]

CONFUSED_CLASSES = 2048
"""Up to so many classes it is counted which one each is taken for; the table of so many has 32 MB."""
NUM_MISTAKES = 100
"""The most frequent ones, which are told."""


def no_answers(num_classes: int, device: torch.device) -> Scores:
    """What `count_answers` gives for no samples at all."""
    nothing = torch.zeros(0, dtype=torch.int64, device=device)
    return count_answers(torch.zeros(0, 1, num_classes, device=device), nothing, nothing.bool())


def count_answers(answers_SVC: Tensor, labels_S: Tensor, counted_S: Tensor) -> Scores:
    """By class of the samples that count: `correct`, `correct5`, `correct_views` and `total`, float64 (C,).

    A view's answer is what its classes have of 1; a sample's answer is the mean over its views.
    `correct_views` is the share of its views that are right alone. `confusion`, float64 (C, C), is how often
    each class (row) was answered by each (column), unless there are more than CONFUSED_CLASSES.
    """
    num_classes = answers_SVC.shape[-1]
    top5 = answers_SVC.mean(dim=1).topk(min(5, num_classes), dim=1).indices
    hits = (top5 == labels_S[:, None]) & counted_S[:, None]
    right_SV = (answers_SVC.argmax(dim=-1) == labels_S[:, None]) & counted_S[:, None]

    def sums(places: Tensor, values: Tensor, size: int) -> Tensor:
        zeros = torch.zeros(size, dtype=torch.float64, device=values.device)
        return zeros.index_add(0, places, values.double())

    scores = {
        "correct": sums(labels_S, hits[:, 0], num_classes),
        "correct5": sums(labels_S, hits.any(dim=1), num_classes),
        "correct_views": sums(labels_S, right_SV.double().mean(dim=1), num_classes),
        "total": sums(labels_S, counted_S, num_classes),
    }
    if num_classes <= CONFUSED_CLASSES:
        pairs = sums(labels_S * num_classes + top5[:, 0], counted_S, num_classes**2)
        scores["confusion"] = pairs.view(num_classes, num_classes)
    return scores


def added(sums: Scores | None, more: Scores) -> Scores:
    """The counts of both; None counts nothing."""
    return more if sums is None else {name: sums[name] + more[name] for name in sums}


def plain(scores: Scores) -> dict[str, Any]:
    """As plain data: lists by class, and as `mistakes` what `most_frequent_mistakes` gives.

    `mistakes` is None where there was no `confusion`.
    """
    confusion = scores.get("confusion")
    by_class = {name: values.tolist() for name, values in scores.items() if name != "confusion"}
    return by_class | {"mistakes": None if confusion is None else most_frequent_mistakes(confusion)}


def most_frequent_mistakes(confusion_CC: Tensor) -> list[list[int]]:
    """Up to NUM_MISTAKES of [label, answer, how often], the most frequent first; none of them is right."""
    wrong_CC = confusion_CC.cpu().clone().fill_diagonal_(0)
    labels, answers = wrong_CC.nonzero(as_tuple=True)
    counts = wrong_CC[labels, answers].long()
    order = counts.argsort(descending=True, stable=True)[:NUM_MISTAKES]
    return torch.stack([labels, answers, counts], dim=1)[order].tolist()
