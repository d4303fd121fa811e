"""Mistakes about action detection: settings that it cannot follow, or that only it can.

See `contradictions.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from mae_dist.config.detection import DetectionConfig
from mae_dist.config.schema import EvaluationConfig, RunConfig

Findings = Iterator[tuple[str, str]]


def detection_is_asked_for(_: RunConfig, evaluation: EvaluationConfig) -> Findings:
    """Boxes are of one protocol."""
    if evaluation.protocol != "detect" and evaluation.detection != DetectionConfig():
        yield "detection", f"is not used by {evaluation.protocol}; leave it out, or protocol detect"


def detection_settings(config: RunConfig, evaluation: EvaluationConfig) -> Findings:
    """What does not go with boxes, or with several answers at once."""
    if evaluation.protocol != "detect":
        return
    if evaluation.augment.rand_augment is not None:
        yield (
            "augment.rand_augment",
            f"turns and shifts the pixels but not the boxes of detect, got "
            f"{evaluation.augment.rand_augment!r}; null would do, or color_jitter",
        )
    for name in ("mixup", "cutmix", "label_smoothing"):
        given = getattr(evaluation.head, name)
        if given > 0:
            yield f"head.{name}", f"is not used by detect, whose answers are many, got {given}; 0 would do"
    if evaluation.head.pool != "mean":
        yield (
            "head.pool",
            f"is not used by detect, which looks at boxes, got {evaluation.head.pool}; mean would do",
        )
    if evaluation.labels_per_class is not None:
        yield (
            "labels_per_class",
            f"is not used by detect, whose keyframes have several labels, got "
            f"{evaluation.labels_per_class}; null would do",
        )
    if evaluation.views.count > 1:
        yield (
            "views",
            f"detect looks at the whole frame of one clip, got {evaluation.views.clips} x "
            f"{evaluation.views.crops} views; 1 x 1 would do",
        )
    if evaluation.views.side < 1:
        yield (
            "views.side",
            f"is not used by detect, which looks at the whole frame, got {evaluation.views.side}; 1 would do",
        )
    if evaluation.training.compile:
        yield (
            "train.compile",
            "does not go with detect, whose batches differ in their number of boxes; false",
        )
    if config.input_for(evaluation).sampling == "uniform":
        given = "input.sampling" if evaluation.sampling is None else "sampling"
        yield (
            "protocol",
            f"detect looks at the clip around a keyframe, and {given} is uniform; dense would do",
        )
    if config.data.mix and config.data.labelled is None:
        yield (
            "protocol",
            f"detect needs one catalog with boxes, got a mix of {', '.join(sorted(config.data.mix))}; say "
            f"which with data.labelled",
        )


def detection_numbers(config: RunConfig, evaluation: EvaluationConfig) -> Findings:
    """Numbers of the section itself."""
    detection, patch = evaluation.detection, config.model.architecture.patch
    for name in ("test_height", "test_width"):
        given = getattr(detection, name)
        if given < patch:
            yield (
                f"detection.{name}",
                f"must be at least {patch}, the patch of {config.model.size}, got {given}",
            )
    actions = detection.actions
    if actions is not None and (not actions or len(set(actions)) < len(actions)):
        yield "detection.actions", f"must name actions, each once, or be null for all; got {list(actions)}"
