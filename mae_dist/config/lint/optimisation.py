"""Remarks about learning rates, batches, lengths and decay, of a pretraining or of one evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from mae_dist.config.duration import Duration
from mae_dist.config.lint.remark import MAE, VIDEOMAE, Remark, Subject, shown
from mae_dist.config.optimisation import TrainConfig
from mae_dist.config.schema import EvaluationConfig

Remarks = Iterator[Remark]
HIGHEST_PEAK = 1.0e-2
"""Peak learning rates of AdamW that were published lie between 5e-4 and 4e-3."""
HIGHEST_OF_VIDEOS = 2.0e-3
"""Published learning rate of fine-tuning on videos, for 256 of them: that of ViT-L on Kinetics-400."""
LARGEST_FLOOR = 0.1
"""Part of the peak to which published schedules fall at most; VideoMAE's pretraining to a fifteenth."""
LONGEST_WARMUP = 0.5
"""Of a training; published ones are at most a ninth of it."""
LEAST_NORMALISED = 16
"""Samples over which a probe's features are normalised; fewer make noise of their mean and deviation."""
ONE_MORE = {801: 800, 1601: 1600, 2401: 2400, 3201: 3200, 4801: 4800}
"""Epochs in VideoMAE's scripts, and those that are meant."""


def pretraining(subject: Subject) -> Remarks:
    """The optimisation of a pretraining."""
    config = subject.config
    if config.weights is not None:
        return
    yield from _learning_rate(config.train)
    yield from _lengths(subject, config.train)
    if config.train.optim.kind == "adamw" and config.train.optim.betas != (0.9, 0.95):
        yield Remark(
            "train.optim.betas",
            shown(config.train.optim.betas),
            "[0.9, 0.95]",
            "pretraining forgets gradients faster than fine-tuning",
            f"{MAE}, table 8; {VIDEOMAE}, appendix",
        )
    if config.train.length.unit == "epochs" and config.train.length.value in ONE_MORE:
        yield Remark(
            "train.length",
            shown(config.train.length),
            f"{ONE_MORE[int(config.train.length.value)]} epochs",
            "the authors' scripts name one epoch more than they train, here all are trained",
            "scripts of MCG-NJU/VideoMAE",
        )


def evaluation(subject: Subject, protocol: EvaluationConfig) -> Remarks:
    """The optimisation of an evaluation that trains on the stream."""
    if protocol.train is None:
        return
    optim, starts = protocol.train.optim, protocol.start_from
    yield from _learning_rate(protocol.train)
    yield from _lengths(subject, protocol.train)
    if protocol.protocol == "linear_probe":
        yield from _probe(protocol.train)
        return
    if protocol.train.repeats > 1 and optim.base_lr * protocol.train.repeats > HIGHEST_OF_VIDEOS:
        yield Remark(
            "train.optim.base_lr",
            shown(optim.base_lr),
            f"the learning rate for 256 videos, divided by repeats = {protocol.train.repeats},",
            "batches, epochs and the learning rate count crops here, in the authors' code videos",
            "scripts of MCG-NJU/VideoMAE: at most 2e-3",
        )
    if "pretrained" in starts and optim.kind == "adamw" and optim.betas[1] != 0.999:
        yield Remark(
            "train.optim.betas",
            shown(optim.betas),
            "[0.9, 0.999]",
            "0.95 is for pretraining and for training from scratch",
            f"{MAE}, table 9; {VIDEOMAE}, appendix",
        )
    if "pretrained" in starts and optim.layer_decay is None:
        yield Remark(
            "train.optim.layer_decay",
            "null",
            "0.75",
            "without it fine-tuning overwrites what the lower layers have learned",
            f"{MAE}, table 9; {VIDEOMAE}, appendix: 0.65 to 0.8",
        )
    if starts == ("random",) and optim.layer_decay is not None:
        yield Remark(
            "train.optim.layer_decay",
            shown(optim.layer_decay),
            "null",
            "the lower layers of random weights have nothing to keep and have to learn at the full rate",
            f"{MAE}, table 11",
        )


def _learning_rate(train: TrainConfig) -> Remarks:
    optim, batch = train.optim, train.global_batch
    if optim.kind == "adamw" and train.peak_lr > HIGHEST_PEAK:
        yield Remark(
            "train.optim.base_lr",
            shown(optim.base_lr),
            f"at most {HIGHEST_PEAK * 256 / batch:.3g} for a batch of {batch}",
            f"it is multiplied by global_batch / 256, which gives a peak of {train.peak_lr:.2g}; published "
            f"peaks of AdamW are below 5e-3",
            f"{MAE}, tables 8 to 11; {VIDEOMAE}, appendix",
        )
    if optim.min_lr > LARGEST_FLOOR * train.peak_lr:
        yield Remark(
            "train.optim.min_lr",
            shown(optim.min_lr),
            f"at most {LARGEST_FLOOR * train.peak_lr:.2g}",
            f"it is never scaled, and the peak is {train.peak_lr:.2g}: base_lr * global_batch / 256",
            "the authors' code scales both",
        )


def _lengths(subject: Subject, train: TrainConfig) -> Remarks:
    warmup, whole = (_steps(subject, train, length) for length in (train.warmup, train.length))
    if train.warmup.unit == train.length.unit:
        warmup, whole = train.warmup.value, train.length.value
    if train.optim.kind == "adamw" and train.warmup.value == 0:
        yield Remark(
            "train.warmup",
            shown(train.warmup),
            "a twentieth of train.length",
            "AdamW's first steps are its most uncertain ones; every published recipe warms up",
            f"{MAE}, tables 8 to 11; {VIDEOMAE}, appendix",
        )
    if warmup is not None and whole is not None and warmup > LONGEST_WARMUP * whole:
        yield Remark(
            "train.warmup",
            shown(train.warmup),
            "a twentieth to a ninth of train.length",
            f"the training is over after {train.length}, so that the learning rate hardly reaches its peak",
            f"{MAE}, tables 8 to 11; {VIDEOMAE}, appendix",
        )
    if subject.num_samples is not None and train.global_batch > subject.num_samples * train.repeats:
        yield Remark(
            "train.global_batch",
            shown(train.global_batch),
            f"at most {subject.num_samples * train.repeats}",
            f"there are {subject.num_samples} samples, of which an update would see some several times",
            "the catalog",
        )


def _steps(subject: Subject, train: TrainConfig, length: Duration) -> float | None:
    if length.unit == "steps" or subject.num_samples is None:
        return length.value if length.unit == "steps" else None
    return length.value * subject.num_samples / train.global_batch


def _probe(train: TrainConfig) -> Remarks:
    if train.optim.weight_decay > 0:
        yield Remark(
            "train.optim.weight_decay",
            shown(train.optim.weight_decay),
            "0",
            "a linear probe is not regularised",
            f"{MAE}, table 10",
        )
    if train.micro_batch < LEAST_NORMALISED:
        yield Remark(
            "train.micro_batch",
            shown(train.micro_batch),
            f"at least {LEAST_NORMALISED}",
            "a probe's batch normalisation sees one micro-batch of one worker, however large the batch is",
            f"the authors' code of {MAE}, which has 512",
        )
