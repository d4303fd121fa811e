"""Mistakes about evaluations of a frozen encoder: sections that a protocol does not use, features that it
cannot have; see `contradictions.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mae_dist.config.probing import (
    FROZEN_PROTOCOLS,
    AttentiveConfig,
    FeaturesConfig,
    HeadsConfig,
    KnnConfig,
)
from mae_dist.config.schema import EvaluationConfig, HeadConfig, RunConfig

Finding = tuple[str, str]

_OWN: dict[str, tuple[tuple[str, ...], Any]] = {
    "features": (FROZEN_PROTOCOLS, FeaturesConfig()),
    "heads": (("feature_probe", "attentive_probe"), HeadsConfig()),
    "attentive": (("attentive_probe",), AttentiveConfig()),
    "knn": (("knn",), KnnConfig()),
}
"""The protocols that use a section, and what it is where nobody gave it."""


def sections(_: RunConfig, evaluation: EvaluationConfig) -> Iterator[Finding]:
    """A protocol has the sections that it uses, and no settings in others."""
    protocol = evaluation.protocol
    for name, (users, unset) in _OWN.items():
        if protocol not in users and getattr(evaluation, name) != unset:
            yield name, f"is not used by {protocol}, only by {' and '.join(users)}; leave it out"
    if protocol not in FROZEN_PROTOCOLS:
        if evaluation.train is None:
            yield "train", f"required by {protocol}, got null; give its length, batches and optim.base_lr"
        return
    instead = "heads" if protocol in _OWN["heads"][0] else "knn"
    if evaluation.train is not None:
        yield "train", f"is not used by {protocol}, whose settings are in {instead}; leave it out"
    if evaluation.head != HeadConfig():
        yield "head", f"is not used by {protocol}, whose settings are in features and {instead}; leave it out"


def features(config: RunConfig, evaluation: EvaluationConfig) -> Iterator[Finding]:
    """The encoder has the layers, tokens and widths that are asked for."""
    if evaluation.protocol not in FROZEN_PROTOCOLS:
        return
    wanted, encoder = evaluation.features, config.model.architecture.encoder
    depth = encoder.depth
    beyond = [layer for layer in wanted.layers if not (1 <= layer <= depth or -depth <= layer <= -1)]
    numbers = [layer % (depth + 1) for layer in wanted.layers]
    if not wanted.layers or beyond or len(set(numbers)) < len(numbers):
        yield (
            "features.layers",
            f"must name blocks of {config.model.size}, each once, from 1 to {depth} or -{depth} to -1, "
            f"got {list(wanted.layers)}",
        )
    if not wanted.pools or len(set(wanted.pools)) < len(wanted.pools):
        yield "features.pools", f"must name mean or class_token or both, each once, got {list(wanted.pools)}"
    if "class_token" in wanted.pools and not config.model.architecture.class_token:
        yield "features.pools", f"class_token, but {config.model.size} has none; mean would do"
    if wanted.drawn_views and evaluation.eval_batch % wanted.drawn_views:
        yield (
            "eval_batch",
            f"must be a multiple of features.drawn_views = {wanted.drawn_views}, whose views stay together, "
            f"got {evaluation.eval_batch}",
        )
    if evaluation.protocol != "attentive_probe":
        return
    if len(wanted.layers) > 1:
        yield (
            "features.layers",
            f"attentive_probe keeps all tokens of one layer, got {list(wanted.layers)}; [-1] would do",
        )
    if wanted.pools != FeaturesConfig().pools:
        yield "features.pools", "is not used by attentive_probe, which keeps all tokens; leave it out"
    if evaluation.heads.kind == "lars":
        yield "heads.kind", "lars is for linear heads, got attentive_probe; adamw or sgd would do"
    if encoder.width % evaluation.attentive.heads:
        yield (
            "attentive.heads",
            f"must divide {encoder.width}, the width of {config.model.size}, got "
            f"{evaluation.attentive.heads}",
        )


def heads(_: RunConfig, evaluation: EvaluationConfig) -> Iterator[Finding]:
    """The numbers of the heads' optimiser lie where they can."""
    given = evaluation.heads
    yield from _each("heads.base_lrs", given.base_lrs, above=True)
    yield from _each("heads.weight_decays", given.weight_decays, above=False)
    if not all(0 <= value < 1 for value in (*given.betas, given.momentum)):
        yield "heads", f"betas and momentum must lie in [0, 1), got {list(given.betas)}, {given.momentum}"
    if given.length.value <= 0:
        yield "heads.length", f"must be greater than 0, got '{given.length}'"
    elif given.warmup.unit == given.length.unit and given.warmup.value > given.length.value:
        yield "heads.warmup", f"must not be longer than the training, '{given.length}', got '{given.warmup}'"


def neighbours(_: RunConfig, evaluation: EvaluationConfig) -> Iterator[Finding]:
    """There is a k."""
    given = evaluation.knn.neighbours
    if not given or len(set(given)) < len(given):
        yield "knn.neighbours", f"must be numbers of neighbours, each once, got {list(given)}"


def probe_head(_: RunConfig, evaluation: EvaluationConfig) -> Iterator[Finding]:
    """What regularises an encoder says nothing to one that is frozen."""
    for name in ("mixup", "cutmix", "drop_path"):
        given = getattr(evaluation.head, name)
        if given > 0 and evaluation.protocol == "linear_probe":
            yield (
                f"head.{name}",
                f"is not used by linear_probe, whose encoder is frozen, got {given}; 0, or protocol finetune",
            )


def probe_optim(_: RunConfig, evaluation: EvaluationConfig) -> Iterator[Finding]:
    """One layer has no layers below it."""
    optim = evaluation.training.optim
    if evaluation.protocol == "linear_probe" and optim.layer_decay is not None and optim.kind != "lars":
        yield (
            "train.optim.layer_decay",
            f"is not used by linear_probe, which trains the head alone, got {optim.layer_decay}; null does",
        )


def _each(path: str, given: Sequence[float], *, above: bool) -> Iterator[Finding]:
    if not given or len(set(given)) < len(given) or min(given) < 0 or (above and min(given) == 0):
        yield (
            path,
            f"must be numbers, each once and {'greater than' if above else 'at least'} 0, got {list(given)}",
        )
