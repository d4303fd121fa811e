"""Mistakes about fine-tuning: blocks that are not there, batches that cannot be mixed.

See `contradictions.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mae_dist.config.schema import EvaluationConfig, RunConfig

Findings = Iterator[tuple[str, str]]


def trainable_blocks(config: RunConfig, evaluation: EvaluationConfig) -> Findings:
    """Some of the blocks that there are, of a model that is fine-tuned."""
    given, depth = evaluation.trainable_blocks, config.model.architecture.encoder.depth
    if given is None:
        return
    if evaluation.protocol != "finetune":
        yield (
            "trainable_blocks",
            f"is not used by {evaluation.protocol}, got {given:g}; null, or protocol finetune",
        )
    elif 2 * given != int(2 * given) or given > depth:
        yield (
            "trainable_blocks",
            f"must be 0, 0.5 (the MLP of the last block), 1, 1.5, ... up to {depth}, the blocks of "
            f"{config.model.size}, or null for everything; got {given:g}",
        )


def mixed_batches(_: RunConfig, evaluation: EvaluationConfig) -> Findings:
    """Samples are mixed in pairs, the first of a micro-batch with the last."""
    head, train = evaluation.head, evaluation.training
    if (head.mixup > 0 or head.cutmix > 0) and train.micro_batch % 2:
        yield (
            "train.micro_batch",
            f"must be even where head.mixup or head.cutmix mixes its samples in pairs, got "
            f"{train.micro_batch}; {train.micro_batch + 1} would do, or 0 for both",
        )


def baseline(config: RunConfig) -> Findings:
    """An evaluation that is compared with another one has no random start of its own, and the other has."""
    from_scratch = [name for name, its in config.evaluations.items() if "random" in its.start_from]
    for name, its in config.evaluations.items():
        field = f"evaluations.{name}.baseline"
        if its.baseline is None:
            continue
        if "random" in its.start_from:
            yield (
                field,
                f"takes the place of its own start from random weights, got start_from {its.start_from}",
            )
        elif its.baseline not in from_scratch:
            known = ", ".join(from_scratch) or "there is none"
            yield (
                field,
                f"must be an evaluation that starts from random weights ({known}), got {its.baseline!r}",
            )


def other_test_sets(_: RunConfig, evaluation: EvaluationConfig) -> Findings:
    """Test sets for weights that are fine-tuned, whose names become folders and whose views stay together."""
    if evaluation.robustness and evaluation.protocol != "finetune":
        yield "robustness", f"is not used by {evaluation.protocol}; leave it out, or protocol finetune"
    for name, its in evaluation.robustness.items():
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
            yield (
                f"robustness.{name}",
                f"becomes part of a folder's name: letters, digits, '-' and '_' only, got {name!r}",
            )
        if evaluation.eval_batch % its.views.count:
            yield (
                "eval_batch",
                f"must be a multiple of robustness.{name}.views.clips * crops = {its.views.count}, whose "
                f"views stay together, got {evaluation.eval_batch}",
            )
