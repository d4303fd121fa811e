"""Mistakes that no single field shows: numbers that do not divide, settings that contradict each other.

Each check names the fields it reads, so that it is left out where one of them is wrong already. Checks are
pure functions from a config to (dotted path, message); a message says what would be right.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from mae_dist.config import actions, crops, engines, finetuning, frozen, inputs, kept, masks, sources
from mae_dist.config.optimisation import OptimConfig, TrainConfig
from mae_dist.config.probing import FROZEN_SECTIONS
from mae_dist.config.schema import EvaluationConfig, RunConfig
from mae_dist.config.starts import start_settings
from mae_dist.config.target_rules import TARGET_RULES
from mae_dist.config.workers import WorkerRange, divisors, worker_counts

Finding = tuple[str, str]
"""(dotted path, message)."""
NUM_CHOICES = 6
"""Numbers offered in a message, those nearest to the one given."""


def contradictions(config: RunConfig, *, invalid: Collection[str] = ()) -> list[Finding]:
    """Every contradiction in a config; checks that read a path in `invalid` (or below one) are left out."""
    found: list[Finding] = []
    for check in CHECKS:
        if not _touches(check.reads, invalid):
            found += check.find(config)
    for name, evaluation in config.evaluations.items():
        above = f"evaluations.{name}"
        for check in EVALUATION_CHECKS:
            if evaluation.train is None and any(path.startswith("train.") for path in check.reads):
                continue
            reads = [path if path in SHARED else f"{above}.{path}" for path in check.reads]
            if not _touches(reads, invalid):
                found += [(f"{above}.{path}", text) for path, text in check.find(config, evaluation)]
    return found


def _touches(reads: Collection[str], invalid: Collection[str]) -> bool:
    return any(f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}.") for a in reads for b in invalid)


def _nearest(numbers: Collection[int], given: int) -> str:
    """Up to NUM_CHOICES of the numbers, nearest to the given one in ratio, in order."""
    chosen = sorted(numbers, key=lambda number: abs(math.log(number / given)))[:NUM_CHOICES]
    return ", ".join(str(number) for number in sorted(chosen))


def _multiples(given: int, unit: int) -> str:
    """The multiples of `unit` around a number."""
    below = given // unit * unit
    return f"{below} or {below + unit}" if below else str(unit)


def _grid(config: RunConfig) -> Iterator[Finding]:
    architecture = config.model.architecture
    for name, unit in [
        ("frames", architecture.tubelet),
        ("height", architecture.patch),
        ("width", architecture.patch),
    ]:
        given = getattr(config.input, name)
        if given % unit:
            yield (
                f"input.{name}",
                f"must be a multiple of {unit}, the {'tubelet' if name == 'frames' else 'patch'} of "
                f"{config.model.size}, got {given}; {_multiples(given, unit)} would do",
            )


def _decoder(config: RunConfig) -> Iterator[Finding]:
    architecture = config.model.architecture
    decoder = architecture.decoder
    if architecture.cross_decoder and architecture.encoder_mask_token:
        problem = (
            "does not go with model.encoder_mask_token, whose hidden tokens the encoder has seen already"
        )
        yield "model.cross_decoder", f"{problem}; leave one of them out"
    # Sine-cosine positions need pairs of channels, of each of the two coordinates in 2-D.
    unit = math.lcm(decoder.heads, 4 if architecture.positions == "sincos_2d" else 2)
    if decoder.width % unit:
        yield (
            "model.decoder_width",
            f"must be a multiple of {unit} ({decoder.heads} heads and the position table), got "
            f"{decoder.width}; {_multiples(decoder.width, unit)} would do",
        )


def _mask(config: RunConfig) -> Iterator[Finding]:
    try:
        grid = config.grid
    except ValueError:
        return  # _grid says so
    its = config.mask
    found = masks.problems(its.kind, grid, its.ratio, its.rounding, its.predict, its.predict_ratio)
    yield from ((f"mask.{field}", message) for field, message in found)


def _name(config: RunConfig) -> Iterator[Finding]:
    named = {"name": config.name}
    named |= {f"evaluations.{name}": name for name in config.evaluations}
    named |= {f"data.mix.{name}": name for name in config.data.mix}
    for path, name in named.items():
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
            rule = "becomes a folder or a file: letters, digits, '-' and '_' only, not starting with '-'"
            yield path, f"{rule}, got {name!r}"
    for taken in {"reconstruction"} & set(config.evaluations):
        yield f"evaluations.{taken}", "is the name of the built-in evaluation; choose another"


def _sampling(config: RunConfig) -> Iterator[Finding]:
    if config.input.sampling == "uniform" and config.input.sample_fps is not None:
        yield (
            "input.sample_fps",
            f"is not used by uniform sampling, got {config.input.sample_fps}; null, or input.sampling dense",
        )


def _evaluation_sampling(config: RunConfig, evaluation: EvaluationConfig) -> Iterator[Finding]:
    if evaluation.sampling == "uniform" and config.input.sample_fps is not None:
        yield (
            "sampling",
            f"uniform does not use input.sample_fps, got {config.input.sample_fps}; null there, or dense",
        )


def _shares(config: RunConfig) -> Iterator[Finding]:
    for path, cpus in [
        ("data.cpus_per_task", config.data.cpus_per_task),
        ("resources.cpus_per_worker", config.resources.cpus_per_worker),
    ]:
        if cpus <= 0:
            yield path, f"must be greater than 0, got {cpus}"
    if config.checkpoint.every.value <= 0:
        yield "checkpoint.every", f"must be greater than 0, got '{config.checkpoint.every}'"


def _finite(config: RunConfig) -> Iterator[Finding]:
    yield from _not_finite(config, "")


def _not_finite(value: Any, path: str) -> Iterator[Finding]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path, f"must be a finite number, got {value}"
    below: list[tuple[str, Any]] = []
    if is_dataclass(value):
        below = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, dict):
        below = list(value.items())
    elif isinstance(value, tuple):
        for item in value:
            yield from _not_finite(item, path)
    for name, item in below:
        yield from _not_finite(item, f"{path}.{name}".lstrip("."))


def _batch(
    train: TrainConfig, workers: WorkerRange, *, workers_field: str = "resources.workers"
) -> Iterator[Finding]:
    whole, micro = train.global_batch, train.micro_batch
    # Both ends of a range divide a number if their least common multiple does.
    unit = math.lcm(workers.least, workers.most)
    if whole % (micro * unit) == 0:
        return
    ways = []
    if counts := worker_counts(global_batch=whole, micro_batch=micro):
        ends = " from and to one of" if workers.is_elastic else ""
        ways.append(f"{workers_field}{ends} {_nearest(counts, workers.most)}")
    if whole % unit == 0:
        ways.append(f"micro_batch {_nearest(divisors(whole // unit), micro)}")
    ways.append(f"global_batch {_multiples(whole, micro * unit)}")
    product = f"micro_batch * workers = {micro} * {unit} = {micro * unit}"
    if workers.is_elastic:
        product = (
            f"micro_batch * workers for {workers.least} and for {workers.most} workers, so of {micro * unit}"
        )
    yield (
        "train.global_batch",
        f"must be a multiple of {product}, got {whole}; {', or '.join(ways)} would do",
    )


def _evaluation_batch(config: RunConfig, evaluation: EvaluationConfig) -> Iterator[Finding]:
    field = "resources.workers" if evaluation.workers is None else "workers"
    return _batch(evaluation.training, config.workers_for(evaluation), workers_field=field)


def _repeats(train: TrainConfig) -> Iterator[Finding]:
    if train.micro_batch % train.repeats:
        yield (
            "train.micro_batch",
            f"must be a multiple of repeats = {train.repeats}, whose crops stay together, got "
            f"{train.micro_batch}; {_multiples(train.micro_batch, train.repeats)} would do",
        )


def _length(train: TrainConfig) -> Iterator[Finding]:
    if train.length.value <= 0:
        yield "train.length", f"must be greater than 0, got '{train.length}'"
    elif train.warmup.unit == train.length.unit and train.warmup.value > train.length.value:
        yield "train.warmup", f"must not be longer than the training, '{train.length}', got '{train.warmup}'"


def _optim(optim: OptimConfig) -> Iterator[Finding]:
    if optim.base_lr <= 0:
        yield "train.optim.base_lr", f"must be greater than 0, got {optim.base_lr}"
    for name in ("min_lr", "weight_decay"):
        if getattr(optim, name) < 0:
            yield f"train.optim.{name}", f"must be at least 0, got {getattr(optim, name)}"
    if not all(0 <= value < 1 for value in (*optim.betas, optim.momentum)):
        yield (
            "train.optim",
            f"betas and momentum must lie in [0, 1), got {list(optim.betas)}, {optim.momentum}",
        )
    if optim.clip_grad_norm is not None and optim.clip_grad_norm <= 0:
        yield (
            "train.optim.clip_grad_norm",
            f"must be greater than 0, or null for none, got {optim.clip_grad_norm}",
        )
    if optim.layer_decay is not None and not 0 < optim.layer_decay <= 1:
        yield "train.optim.layer_decay", f"must lie in (0, 1], or be null for none, got {optim.layer_decay}"
    if optim.layer_decay is not None and optim.kind == "lars":
        yield (
            "train.optim.layer_decay",
            f"is not used by lars, which scales each layer by itself, got {optim.layer_decay}; "
            f"null, or optim.kind adamw",
        )


def _head(config: RunConfig, evaluation: EvaluationConfig) -> Iterator[Finding]:
    head = evaluation.head
    if head.pool == "class_token" and not config.model.architecture.class_token:
        yield "head.pool", f"class_token, but {config.model.size} has none; mean would do"
    for name in ("mixup", "cutmix"):
        if getattr(head, name) < 0:
            yield f"head.{name}", f"must be at least 0, got {getattr(head, name)}"


def _views(_: RunConfig, evaluation: EvaluationConfig) -> Iterator[Finding]:
    count = evaluation.views.count
    if evaluation.eval_batch % count:
        yield (
            "eval_batch",
            f"must be a multiple of views.clips * views.crops = {count}, whose views stay together, got "
            f"{evaluation.eval_batch}; {_multiples(evaluation.eval_batch, count)} would do",
        )


def _starts(_: RunConfig, evaluation: EvaluationConfig) -> Iterator[Finding]:
    starts = evaluation.start_from
    if not starts or len(set(starts)) < len(starts):
        yield "start_from", f"must name pretrained or random or both, each once, got {list(starts)}"


@dataclass(frozen=True, slots=True)
class Check:
    """A rule over a whole run."""

    reads: tuple[str, ...]
    find: Callable[[RunConfig], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class EvaluationCheck:
    """A rule over one evaluation; paths are relative to it, except those in SHARED."""

    reads: tuple[str, ...]
    find: Callable[[RunConfig, EvaluationConfig], Iterator[Finding]]


_BATCH = ("train.global_batch", "train.micro_batch", "resources.workers")
_REPEATS = ("train.micro_batch", "train.repeats")
_LENGTH = ("train.length", "train.warmup")
_ENGINE = ("resources.engine", "resources.zero_stage", "resources.offload")
_TRAIN = (*_ENGINE, "train.ema", "train.compile")
_DETECTION = ("protocol", "augment", "head", "views", "labels_per_class", "train.compile", "sampling")
SHARED = frozenset(
    {"resources.workers", "model.size", "data.mix", "data.labelled", *_ENGINE}
    | {"input.sampling", "input.sample_fps", "input.channels", "checkpoint.keep_every"}
)

CHECKS = (
    Check(("name",), _name),
    Check(("start", "weights", "model"), start_settings),
    Check(("data.catalog", "data.mix"), sources.one_catalog_or_a_mix),
    Check(("data.mix", "data.labelled"), sources.labelled_is_in_the_mix),
    Check(("model", "input.frames", "input.height", "input.width"), _grid),
    Check(("model", "input.frames"), inputs.frames_are_told_apart),
    Check(("model",), _decoder),
    Check(("model", "input.frames", "input.height", "input.width", "mask"), _mask),
    Check(("input.sampling", "input.sample_fps"), _sampling),
    *(Check(*rule) for rule in TARGET_RULES),
    Check(("input.channels", "input.mean", "input.std"), inputs.pixel_statistics),
    Check(("input.channels", "augment"), lambda config: inputs.colour_changes(config, config.augment)),
    Check(("data.cpus_per_task", "resources.cpus_per_worker", "checkpoint.every"), _shares),
    Check((), _finite),
    Check(("evaluations",), finetuning.baseline),
    Check(_BATCH, lambda config: _batch(config.train, config.resources.workers)),
    Check(_REPEATS, lambda config: _repeats(config.train)),
    Check(_LENGTH, lambda config: _length(config.train)),
    Check(("train.optim",), lambda config: _optim(config.train.optim)),
    Check(crops.READS, lambda config: crops.augment_settings(config.augment)),
    Check(_ENGINE, engines.engine_settings),
    Check(_TRAIN, lambda config: engines.train_settings(config.resources, config.train)),
)
EVALUATION_CHECKS = (
    EvaluationCheck((*_BATCH, "workers"), _evaluation_batch),
    EvaluationCheck(_REPEATS, lambda _, evaluation: _repeats(evaluation.training)),
    EvaluationCheck(_LENGTH, lambda _, evaluation: _length(evaluation.training)),
    EvaluationCheck(("train.optim",), lambda _, evaluation: _optim(evaluation.training.optim)),
    EvaluationCheck(crops.READS, lambda _, evaluation: crops.augment_settings(evaluation.augment)),
    EvaluationCheck(
        ("input.channels", "augment"), lambda config, its: inputs.colour_changes(config, its.augment)
    ),
    EvaluationCheck(("model.size", "head"), _head),
    EvaluationCheck(("protocol", "head"), frozen.probe_head),
    EvaluationCheck(("protocol", "train.optim"), frozen.probe_optim),
    EvaluationCheck(("protocol", "train", "head", *FROZEN_SECTIONS), frozen.sections),
    EvaluationCheck(
        ("protocol", "model.size", "eval_batch", "features", "heads", "attentive"), frozen.features
    ),
    EvaluationCheck(("heads",), frozen.heads),
    EvaluationCheck(("knn",), frozen.neighbours),
    EvaluationCheck(("protocol", "model.size", "trainable_blocks"), finetuning.trainable_blocks),
    EvaluationCheck(("train.micro_batch", "head"), finetuning.mixed_batches),
    EvaluationCheck(("eval_batch", "views"), _views),
    EvaluationCheck(("sampling", "input.sample_fps"), _evaluation_sampling),
    EvaluationCheck(("protocol", "eval_batch", "robustness"), finetuning.other_test_sets),
    EvaluationCheck(("start_from",), _starts),
    EvaluationCheck(("checkpoints", "start_from", "checkpoint.keep_every"), kept.checkpoints_are_kept),
    EvaluationCheck(_TRAIN, lambda config, given: engines.train_settings(config.resources, given.training)),
    EvaluationCheck(("protocol", "train.activation_checkpointing"), engines.probe_settings),
    EvaluationCheck(("labels_per_class", "data.mix", "data.labelled"), sources.few_labels_are_of_one_catalog),
    EvaluationCheck(("protocol", "detection"), actions.detection_is_asked_for),
    EvaluationCheck((*_DETECTION, "input.sampling", "data.mix", "data.labelled"), actions.detection_settings),
    EvaluationCheck(("model.size", "detection"), actions.detection_numbers),
)
