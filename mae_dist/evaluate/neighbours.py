"""Votes of the nearest training samples: kNN on features, without any training.

    queries, a window at a time -> similarities to the bank, a part at a time -> the nearest so far -> votes

Similarity is the cosine, and a neighbour's vote exp(similarity / temperature), as in DINO (arXiv 2104.14294).
A sample of the bank is the mean of its views' directions; each view of a query asks by itself, and the answer
of a sample is the mean of what its views got. Letters: Q queries, M samples of the bank, K neighbours, D
width, C classes, S samples, V views.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mae_dist.evaluate.windows import Rows, Windows
from mae_dist.train.scores import Scores, added, count_answers

QUERIES = 1024
"""Views that ask at once ..."""
BANK = 1 << 16
"""... this many samples of the bank: their similarities take 256 MB."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """The K nearest of every query so far, nearest first."""

    similarity: Tensor
    """(Q, K)."""
    label: Tensor

    def votes(self, k: int, *, temperature: float, num_classes: int) -> Tensor:
        """Each class' share of the votes of the `k` nearest, (Q, C)."""
        # Only ratios count; without the largest taken off, exp(1 / 0.01) would already be infinite.
        shifted = (self.similarity[:, :k] - self.similarity[:, :1]) / temperature
        zeros = torch.zeros(len(shifted), num_classes, dtype=shifted.dtype, device=shifted.device)
        votes_QC = zeros.scatter_add(1, self.label[:, :k], shifted.exp())
        return votes_QC / votes_QC.sum(dim=1, keepdim=True)


def nearest(
    query_QD: Tensor, bank_MD: Tensor, label_M: Tensor, k: int, before: Nearest | None = None
) -> Nearest:
    """The `k` nearest of a bank and of those found `before`, or all if they are fewer.

    Queries and bank are directions of length 1.
    """
    if before is None:
        none_Q0 = query_QD.new_empty(len(query_QD), 0)
        before = Nearest(none_Q0, none_Q0.long())
    similarity_QK, label_QK = before.similarity, before.label
    for start in range(0, len(bank_MD), BANK):
        its_QM = query_QD @ bank_MD[start : start + BANK].T
        labels_QM = label_M[start : start + BANK].expand(len(query_QD), -1)
        similarity_QK = torch.cat([similarity_QK, its_QM], dim=1)
        similarity_QK, ids = similarity_QK.topk(min(k, similarity_QK.shape[1]), dim=1)
        label_QK = torch.cat([label_QK, labels_QM], dim=1).gather(1, ids)
    return Nearest(similarity_QK, label_QK)


def score_neighbours(
    queries: Windows,
    bank: Windows,
    *,
    names: Sequence[str],
    neighbours: Sequence[int],
    temperature: float,
    query_views: int,
    bank_views: int,
    num_classes: int,
) -> dict[tuple[str, int], Scores]:
    """Counts of right answers by class, as `scores.count_answers` gives them, for every (features, k).

    The bank is read once for each window of queries.
    """
    sums: dict[tuple[str, int], Scores] = {}
    for rows in queries.in_order():
        parts = list(_parts(rows, query_views))
        for name in names:
            found: list[Nearest | None] = [None] * len(parts)
            for bank_MD, label_M in _bank(bank, name, bank_views):
                for number, part in enumerate(parts):
                    asked = _directions(part[name])
                    found[number] = nearest(asked, bank_MD, label_M, max(neighbours), found[number])
            for part, its in zip(parts, found, strict=True):
                assert its is not None
                labels_S = part["label"][::query_views]
                for k in neighbours:
                    votes_QC = its.votes(k, temperature=temperature, num_classes=num_classes)
                    answers_SVC = votes_QC.unflatten(0, (-1, query_views))
                    counts = count_answers(answers_SVC, labels_S, torch.ones_like(labels_S, dtype=torch.bool))
                    sums[name, k] = added(sums.get((name, k)), counts)
    return sums


def _bank(windows: Windows, name: str, views: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Directions (M, D) and labels (M,) of the bank, a window at a time."""
    for rows in windows.in_order():
        views_MVD = _directions(rows[name]).unflatten(0, (-1, views))
        yield _directions(views_MVD.mean(dim=1)), rows["label"][::views]


def _directions(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)


def _parts(rows: Rows, views: int) -> Iterator[Rows]:
    size = max(1, QUERIES // views) * views
    for start in range(0, len(rows["label"]), size):
        yield {name: values[start : start + size] for name, values in rows.items()}
