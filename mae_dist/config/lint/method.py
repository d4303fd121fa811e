"""Remarks about the method: target, mask, head, and the published number that stands beside a result."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mae_dist.config.lint.remark import MAE, VIDEOMAE, Remark, Subject, shown
from mae_dist.config.masks import num_kept
from mae_dist.config.schema import EvaluationConfig
from mae_dist.config.testing import PublishedResult

Remarks = Iterator[Remark]
DROP_PATH = {"small": 0.1, "base": 0.1, "large": 0.2, "huge": 0.2}
"""Of fine-tuning, by size; MAE's ViT-L has 0.1 in the paper, its ViT-H 0.3 in the script."""
LARGEST_HEAD = 0.1
"""Scale of a head's first weights above which they disturb a pretrained encoder; the authors have 0.001."""


def target(subject: Subject) -> Remarks:
    """The two papers normalise the pixels of a patch in ways of their own."""
    config = subject.config
    family = "videomae" if config.model.size.startswith("videomae") else "mae"
    usual = f"norm_pixel_{family}"
    if subject.is_of_a_paper and config.target.kind.startswith("norm_pixel") and config.target.kind != usual:
        yield Remark(
            "target.kind",
            config.target.kind,
            usual,
            "MAE normalises all values of a patch together with 1e-6 below the root, VideoMAE each channel "
            "for itself with 1e-6 beside it",
            f"the authors' code of {MAE} and {VIDEOMAE}",
        )


def mask(subject: Subject) -> Remarks:
    """Default masks are MAE's, and there are two ways to round."""
    config, its = subject.config, subject.config.mask
    if subject.is_video and subject.is_of_a_paper and its.kind == "random" and its.ratio == 0.75:
        yield Remark(
            "mask",
            "random 0.75",
            "{kind: tube, ratio: 0.9}",
            "that is the default, MAE's for images; from 0.25 of a video's tokens the rest can be copied",
            f"{VIDEOMAE}, table 1b; {MAE} for videos, arXiv 2205.09113: random 0.9",
        )
    if its.rounding is None:
        return
    given, usual = (num_kept(its.kind, config.grid, its.ratio, each) for each in (its.rounding, None))
    if given != usual:
        yield Remark(
            "mask.rounding",
            its.rounding,
            "null",
            f"{given} of {config.grid.num_tokens} tokens are kept, {usual} by the rounding of the paper "
            f"that has masks of this kind",
            "the authors' code",
        )


def head(subject: Subject, evaluation: EvaluationConfig) -> Remarks:
    """A fine-tuned head: what it pools, how large it begins, how it is regularised."""
    its = evaluation.head
    if evaluation.protocol != "finetune" or not subject.is_of_a_paper:
        return
    if its.pool != "mean":
        yield Remark(
            "head.pool",
            its.pool,
            "mean",
            "published fine-tunings average the patch tokens and norm the average; the class token is close, "
            "and has been seen to give NaN with ViT-H in half precision",
            "facebookresearch/mae, FINETUNE",
        )
    if "pretrained" in evaluation.start_from and its.init_scale > LARGEST_HEAD:
        yield Remark(
            "head.init_scale",
            shown(its.init_scale),
            "0.001",
            "the gradients of a large random head disturb the pretrained encoder in the first steps",
            f"the authors' code of {MAE} and {VIDEOMAE}",
        )
    usual = DROP_PATH.get(subject.config.model.size.rpartition("_")[2], 0.1)
    if its.drop_path == 0:
        yield Remark(
            "head.drop_path",
            "0",
            shown(usual),
            "every published fine-tuning leaves blocks out at random",
            f"{MAE}, table 9; {VIDEOMAE}, appendix",
        )
    if (its.mixup > 0 or its.cutmix > 0) and its.label_smoothing == 0:
        yield Remark(
            "head.label_smoothing",
            "0",
            "0.1",
            "mixed labels are published with smoothing; a pair that is mixed with itself is else certain",
            f"{MAE}, table 9; {VIDEOMAE}, appendix",
        )


def tested_samples(subject: Subject) -> Remarks:
    """Nothing is tested on what it was trained on."""
    data = subject.config.data
    for field, source in data.sources.items():
        if source == data.test_catalog:
            yield Remark(
                "data.test_catalog",
                source,
                "the validation or test samples",
                f"these are the training samples, data.{field}",
                "the config",
            )


def published(subject: Subject, evaluation: EvaluationConfig) -> Remarks:
    """The number that the report shows beside ours is of this model and training."""
    numbers = {"published": evaluation.published}
    numbers |= {f"robustness.{name}.published": its.published for name, its in evaluation.robustness.items()}
    for path, number in numbers.items():
        for what in () if number is None else _differences(subject, evaluation, number):
            assert number is not None
            yield Remark(path, shown(number.value), "null, or the number of this run", what, number.source)


def _differences(subject: Subject, evaluation: EvaluationConfig, number: PublishedResult) -> Iterator[str]:
    config = subject.config
    size = re.search(r"ViT-([SBLH])\b", number.source)
    ours = config.model.size.rpartition("_")[2][0].upper() if subject.is_of_a_paper else None
    if size is not None and size[1] != ours:
        yield f"it is of ViT-{size[1]}, and the model is {config.model.size}"
    epochs = None if "scratch" in number.source else re.search(r"(\d+) epochs", number.source)
    length = config.train.length
    if epochs and config.weights is None and length.unit == "epochs" and float(epochs[1]) != length.value:
        yield f"it is of {epochs[1]} epochs of pretraining, and train.length is {length}"
    if evaluation.labels_per_class is not None:
        yield f"it is of all labels, and labels_per_class is {evaluation.labels_per_class}"
    if evaluation.trainable_blocks is not None:
        yield f"it is of all blocks, and trainable_blocks is {evaluation.trainable_blocks:g}"
