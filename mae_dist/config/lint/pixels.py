"""Remarks about pixels: which frames, how they are cropped, mirrored, scaled and tested."""

from __future__ import annotations

from collections.abc import Iterator

from mae_dist.config.data_sets import DataSet
from mae_dist.config.lint.remark import MAE, VIDEOMAE, Remark, Subject, shown
from mae_dist.config.schema import AugmentConfig, EvaluationConfig

Remarks = Iterator[Remark]
PAPER_SIDE = 224
"""Pixels of the input in both papers."""


def pretraining_crops(subject: Subject) -> Remarks:
    """Crops, mirroring and colours of a pretraining."""
    config = subject.config
    if config.weights is not None:
        return
    for data_set in subject.data_sets.values():
        yield from _mirrored(config.augment, data_set)
    yield from _filter(subject, config.augment)
    for name, unused in [("color_jitter", None), ("rand_augment", None), ("erasing", 0.0)]:
        given = getattr(config.augment, name)
        if given != unused:
            yield Remark(
                f"augment.{name}",
                shown(given),
                shown(unused),
                "pretraining wants crops alone; colour jitter costs MAE 0.6 points fine-tuned, 1.6 probed",
                f"{MAE}, table 1e",
            )


def colours(subject: Subject) -> Remarks:
    """Mean and standard deviation of pixels in [0, 1], those of the data."""
    its = subject.config.input
    if max(its.mean) > 1:
        yield Remark(
            "input.mean",
            shown(its.mean),
            shown(tuple(round(value / 255, 4) for value in its.mean)),
            "pixels lie between 0 and 1 here, these numbers look like those of 0 to 255",
            "mae-dist config fields",
        )
        return
    data_set = next(iter(subject.data_sets.values()), None)
    if data_set is None or len(its.mean) != len(data_set.mean):
        return
    for name in ("mean", "std"):
        given, usual = getattr(its, name), getattr(data_set, name)
        if max(abs(a - b) for a, b in zip(given, usual, strict=True)) > 0.005:
            yield Remark(
                f"input.{name}",
                shown(given),
                shown(usual),
                f"published results on {data_set.name} and weights from there have it",
                "the data's own" if data_set.name.startswith("CIFAR") else f"{MAE}, {VIDEOMAE}",
            )


def span(subject: Subject) -> Remarks:
    """How much of a video a clip covers."""
    its = subject.config.input
    data_set = next(iter(subject.data_sets.values()), None)
    if data_set is None or data_set.span is None or its.sampling == "uniform" or its.sample_fps is not None:
        return
    if subject.is_video and its.frames * its.frame_stride != data_set.span:
        yield Remark(
            "input.frame_stride",
            shown(its.frame_stride),
            shown(max(1, data_set.span // its.frames)),
            f"clips of {data_set.name} cover {data_set.span} frames of the video, these cover "
            f"{its.frames * its.frame_stride}; what weights are tested on has to be as they were trained",
            f"{VIDEOMAE}, appendix",
        )


def pretraining_window(subject: Subject) -> Remarks:
    """Pretraining looks at a window of the video, wherever fine-tuning looks."""
    if subject.is_video and subject.config.input.sampling == "uniform":
        yield Remark(
            "input.sampling",
            "uniform",
            "dense, and sampling uniform in the evaluation",
            "VideoMAE pretrains on neighbouring frames even where it fine-tunes on the whole video",
            f"{VIDEOMAE}, appendix",
        )


def evaluation_crops(subject: Subject, evaluation: EvaluationConfig) -> Remarks:
    """Crops of an evaluation's training samples, and the filter of its test samples."""
    if subject.labelled is not None:
        yield from _mirrored(evaluation.augment, subject.labelled)
    yield from _filter(subject, evaluation.augment)
    augment = evaluation.augment
    is_unlike_theirs = augment.crop == "random_resized" and augment.scale[0] != 0.08
    if subject.is_of_a_paper and is_unlike_theirs and evaluation.protocol in ("finetune", "linear_probe"):
        yield Remark(
            "augment.scale",
            shown(augment.scale),
            "[0.08, 1]",
            "crops of labelled samples may be smaller than those of pretraining",
            f"the authors' code of {MAE} and {VIDEOMAE}",
        )


def evaluation_frames(subject: Subject, evaluation: EvaluationConfig) -> Remarks:
    """Frames of a clip in fine-tuning and probing."""
    given = subject.config.input_for(evaluation).sampling
    data_set = subject.labelled
    if data_set is None or not subject.is_video or evaluation.protocol not in ("finetune", "linear_probe"):
        return
    if given != data_set.sampling:
        yield Remark(
            "sampling",
            given,
            data_set.sampling,
            f"so VideoMAE is fine-tuned and tested on {data_set.name}",
            f"{VIDEOMAE}, appendix; the notes of MCG-NJU/VideoMAE, MODEL_ZOO",
        )


def views(subject: Subject, evaluation: EvaluationConfig) -> Remarks:
    """How many views of a test sample there are, and how large they are."""
    data_set, given = subject.labelled, evaluation.views
    if evaluation.protocol == "detect":
        return
    is_compared = subject.is_of_a_paper and evaluation.protocol in ("finetune", "linear_probe")
    if data_set is not None and is_compared and (given.clips, given.crops) != data_set.views:
        clips, crops = data_set.views
        yield Remark(
            "views",
            f"{given.clips} x {given.crops}",
            f"{{clips: {clips}, crops: {crops}}}",
            f"published results on {data_set.name} are over {clips} x {crops} views; one view of a video "
            f"gives 1 to 3 points less",
            VIDEOMAE if subject.is_video else MAE,
        )
    if (subject.config.input.height, subject.config.input.width) != (PAPER_SIDE, PAPER_SIDE):
        return
    side = 1.0 if subject.is_video else 0.875
    if given.side != side:
        yield Remark(
            "views.side",
            shown(given.side),
            shown(side),
            "videos are tested at a short side of 224" if subject.is_video else "224 of 256 pixels count",
            f"the authors' code of {VIDEOMAE if subject.is_video else MAE}",
        )


def _mirrored(augment: AugmentConfig, data_set: DataSet) -> Remarks:
    if augment.flip and data_set.has_directions:
        yield Remark(
            "augment.flip",
            "true",
            "false",
            f"labels of {data_set.name} tell left from right",
            f"{VIDEOMAE}, appendix",
        )


def _filter(subject: Subject, augment: AugmentConfig) -> Remarks:
    usual = "bilinear" if subject.is_video else "bicubic"
    if subject.is_of_a_paper and augment.interpolation != usual:
        yield Remark(
            "augment.interpolation",
            augment.interpolation,
            usual,
            f"{'videos' if subject.is_video else 'images'} are resampled so in training and test",
            f"the authors' code of {VIDEOMAE if subject.is_video else MAE}",
        )
