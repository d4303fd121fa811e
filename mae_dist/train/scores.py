"""Counts of right answers by class, which add up over batches and workers.

Letters: S samples, V views of each, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

Scores = dict[str, Tensor]


def no_answers(num_classes: int, device: torch.device) -> Scores:
    """What `count_answers` gives for no samples at all."""
    zeros = torch.zeros(num_classes, dtype=torch.float64, device=device)
    return {name: zeros.clone() for name in ("correct", "correct5", "correct_views", "total")}


def count_answers(answers_SVC: Tensor, labels_S: Tensor, counted_S: Tensor) -> Scores:
    """By class of the samples that count: `correct`, `correct5`, `correct_views` and `total`, float64 (C,).

    A view's answer is what its classes have of 1; a sample's answer is the mean over its views.
    `correct_views` is the share of its views that are right alone.
    """
    num_classes = answers_SVC.shape[-1]
    top5 = answers_SVC.mean(dim=1).topk(min(5, num_classes), dim=1).indices
    hits = (top5 == labels_S[:, None]) & counted_S[:, None]
    right_SV = (answers_SVC.argmax(dim=-1) == labels_S[:, None]) & counted_S[:, None]

    def by_class(values: Tensor) -> Tensor:
        zeros = torch.zeros(num_classes, dtype=torch.float64, device=values.device)
        return zeros.index_add(0, labels_S, values.double())

    return {
        "correct": by_class(hits[:, 0]),
        "correct5": by_class(hits.any(dim=1)),
        "correct_views": by_class(right_SV.double().mean(dim=1)),
        "total": by_class(counted_S),
    }


def added(sums: Scores | None, more: Scores) -> Scores:
    """The counts of both; None counts nothing."""
    return more if sums is None else {name: sums[name] + more[name] for name in sums}
