"""Training heads on kept features, choosing the best on held-out training samples, scoring it on the test.

    training features, shuffled -> all heads, one pass -> validation accuracy of each -> test scores of one

The test features are read for the chosen head alone. Letters: B rows, S samples, V views of each, H heads, C
classes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from mae_dist.config.probing import HeadsConfig
from mae_dist.evaluate.windows import Rows, Windows
from mae_dist.train.schedule import Schedule
from mae_dist.train.scores import Scores, added, count_answers, no_answers

_NUMBERS = 1 << 25
"""Logits, or features, that are held at once while scoring; 128 MB."""


class DivergedError(ValueError):
    """No head has finite weights."""


class Heads(Protocol):
    """Classifiers that are trained on the same rows."""

    def settings(self) -> list[dict[str, Any]]:
        """What distinguishes the heads, in order."""
        ...

    def update(self, rows: Rows, factor: float) -> Tensor:
        """One update of all heads with learning rates times `factor`; the loss of each."""
        ...

    def logits(self, rows: Rows, head: int | None = None) -> Tensor:
        """(B, H, C) of all heads, or (B, 1, C) of one."""
        ...

    def finite(self) -> Tensor:
        """Which heads have finite weights."""
        ...


def train_heads(
    heads: Heads,
    windows: Windows,
    config: HeadsConfig,
    *,
    num_rows: int,
    seed: int,
    show: Callable[[int, int, float], None] = lambda step, total, loss: None,
) -> int:
    """Train all heads side by side; returns the number of updates.

    `num_rows` is one epoch. `show` is told the step, the last one and the smallest loss, now and then.
    """
    total = max(1, config.length.steps(samples_per_epoch=num_rows, global_batch=config.batch))
    warmup = config.warmup.steps(samples_per_epoch=num_rows, global_batch=config.batch)
    schedule = Schedule(total_steps=total, warmup_steps=warmup, peak_lr=1.0, min_lr=0.0)
    every = max(1, total // 100)
    for step, rows in enumerate(itertools.islice(windows.batches(config.batch, seed=seed), total)):
        losses = heads.update(rows, schedule.lr(step))
        if (step + 1) % every == 0:
            show(step + 1, total, float(losses.nan_to_num(math.inf).min()))
    return total


def validation_accuracies(heads: Heads, windows: Windows, *, views: int) -> list[float | None]:
    """Of every head the share of samples that are right in the mean over their views; None if it diverged."""
    finite = heads.finite()
    right, total = torch.zeros(len(finite), dtype=torch.float64, device=finite.device), 0
    num_numbers = None
    for rows in windows.in_order():
        num_numbers = num_numbers or heads.logits(_slice(rows, 0, views)).numel() // views
        for part in _parts(rows, views, num_numbers):
            answers_SVHC = heads.logits(part).softmax(-1).unflatten(0, (-1, views))
            right += (answers_SVHC.mean(1).argmax(-1) == part["label"][::views, None]).double().sum(0)
            total += len(answers_SVHC)
    shares = (right / max(1, total)).tolist()
    return [share if ok else None for share, ok in zip(shares, finite.tolist(), strict=True)]


def best_of(accuracies: list[float | None]) -> int:
    """The head with the highest accuracy, the first of equals; DivergedError if none has one."""
    known = [-1.0 if accuracy is None else accuracy for accuracy in accuracies]
    best = max(range(len(known)), key=known.__getitem__)
    if accuracies[best] is None:
        raise DivergedError(
            f"none of the {len(known)} heads has finite weights; give smaller heads.base_lrs, or a warm-up"
        )
    return best


def score_head(heads: Heads, head: int, windows: Windows, *, views: int, num_classes: int) -> Scores:
    """Counts of right answers of one head, by class, as `scores.count_answers` gives them."""
    sums: Scores | None = None
    for rows in windows.in_order():
        for part in _parts(rows, views, num_classes):
            answers_SVC = heads.logits(part, head)[:, 0].softmax(-1).unflatten(0, (-1, views))
            labels_S = part["label"][::views]
            found = count_answers(answers_SVC, labels_S, torch.ones_like(labels_S, dtype=torch.bool))
            sums = added(sums, found)
    return sums or no_answers(num_classes, torch.device("cpu"))


def _parts(rows: Rows, views: int, numbers_per_row: int) -> Iterator[Rows]:
    """Rows in parts of whole samples, small enough for their logits and, if they are tokens, themselves."""
    own = sum(values[0].numel() for values in rows.values())
    size = max(1, _NUMBERS // (max(numbers_per_row, own) * views)) * views
    for start in range(0, len(rows["label"]), size):
        yield _slice(rows, start, start + size)


def _slice(rows: Rows, start: int, end: int) -> Rows:
    return {name: values[start:end] for name, values in rows.items()}
