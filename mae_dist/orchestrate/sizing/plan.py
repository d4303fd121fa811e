"""What one training of a recipe needs on a number of GPUs, and what to choose.

    training, GPU -> memory of every ZeRO stage x micro-batch x checkpointing that makes the global batch
      -> the best one that fits -> samples per second at a stated MFU -> CPUs that feed it, time, cost

Nothing is started or allocated. A classifier's head is left out throughout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mae_dist.config.optimisation import TrainConfig
from mae_dist.config.probing import FROZEN_PROTOCOLS
from mae_dist.config.schema import RunConfig
from mae_dist.config.workers import divisors
from mae_dist.orchestrate.sizing.choices import (
    RESERVED_BYTES,
    USABLE,
    Choice,
    best,
    choices_of,
    usable_bytes,
)
from mae_dist.orchestrate.sizing.feeding import HEADROOM, IMAGE, VIDEO, Decoding, Feeding, feeding
from mae_dist.orchestrate.sizing.states import Trained
from mae_dist.orchestrate.sizing.tasks import (
    num_samples,
    pixel_bytes,
    recomputed_operations,
    trained_parameters,
)
from mae_dist.train.gpus import gpu_named
from mae_dist.train.training import Training

MFU = 0.2
"""Assumed where none is stated; see PUBLISHED_MFU."""
PUBLISHED_MFU = {
    0.048: "VideoMAE ViT-B, 19.5 h on 64 V100: arXiv 2203.12602, table 3",
    0.105: "MAE ViT-L, 42 h on 64 V100: the authors' PRETRAIN.md",
    0.289: "ViT-g/14 with NeMo on 8 H100: NVIDIA's NeMo documentation",
}
"""What others have reached, from their times and the operations that their steps need (model/operations.py);
the last one not a masked autoencoder. None was measured with this code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a plan is asked for."""

    gpu: str
    """As `gpu_named` takes it."""
    gpus: int
    evaluation: str | None = None
    """Key in config.evaluations; None plans the pretraining."""
    mfu: float = MFU
    samples: int | None = None
    """In the training set; None: as the names of data sets in the recipe tell."""
    decode_seconds: float | None = None
    """CPU time from a stored sample to one crop; None: what was measured on one file, see feeding.py."""
    sample_bytes: float | None = None
    node_cpus: int = 32
    price_gpu_hour: float | None = None
    price_cpu_hour: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Bill:
    """What the whole training takes."""

    steps: int
    seconds: float
    gpu_hours: float
    cpu_hours: float
    """Of the CPU nodes, whole ones."""
    cost: float | None
    """At the prices given, in their currency; None: none was given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """How a choice goes on."""

    mfu: float
    samples_per_second: float
    """Crops, of all GPUs together."""
    feeding: Feeding
    bill: Bill | None
    """None: it is counted in epochs, and how many samples there are is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What `mae-dist plan` tells."""

    name: str
    training: str
    """pretrain, or the evaluation's name."""
    gpu: str
    gpus: int
    memory_gb: int
    usable_bytes: float
    peak_tflops: float | None
    precision: str
    global_batch: int
    samples: int | None
    """In the training set."""
    parameters: Trained
    operations: int
    """Of one sample in a training step, two per multiply-add."""
    choices: tuple[Choice, ...]
    recommended: Choice | None
    course: Course | None
    settings: tuple[str, ...]
    """What to --set for the choice that is recommended."""
    problems: tuple[str, ...]
    """Why it cannot work; empty if it can."""
    notes: tuple[str, ...]
    """What was assumed."""


def make_plan(config: RunConfig, request: Request) -> Plan:
    """The plan of a config's pretraining, or of one evaluation's training.

    Raises ValueError for a GPU that is not known, and for an evaluation that is not there or trains nothing
    on the stream.
    """
    gpu_name, gpu, memory_gb = gpu_named(request.gpu)
    training = _training(config, request.evaluation)
    train, request = training.train, replace(request, samples=request.samples or num_samples(training))
    precision = "bf16" if train.precision == "auto" else train.precision
    peak = config.resources.peak_tflops or getattr(gpu, precision)
    problems = list(_problems(training, request, gpu_name=gpu_name, precision=precision, peak=peak))
    usable = usable_bytes(memory_gb)
    choices = tuple(choices_of(training, gpus=request.gpus, is_half=precision != "fp32", usable=usable))
    recommended = best(choices, own_stage=config.resources.zero_stage)
    if choices and recommended is None:
        least = min(choices, key=lambda choice: choice.peak_bytes)
        problems.append(
            f"nothing fits into the {usable / 1e9:.0f} GB that can be used of {gpu_name} with {memory_gb} "
            f"GB: the least is {least.peak_bytes / 1e9:.1f} GB, with zero_stage {least.stage}, micro_batch "
            f"{least.micro_batch}, activation_checkpointing {str(least.checkpointing).lower()}; a GPU with "
            "more memory or a smaller input would do"
        )
    course = None
    if recommended is not None and peak is not None and not problems:
        course = _course(training, recommended, request, peak=peak)
    return Plan(
        name=config.name,
        training=request.evaluation or "pretrain",
        gpu=gpu_name,
        gpus=request.gpus,
        memory_gb=memory_gb,
        usable_bytes=usable,
        peak_tflops=peak,
        precision=precision,
        global_batch=train.global_batch,
        samples=request.samples,
        parameters=trained_parameters(training),
        operations=training.operations(num_classes=0),
        choices=choices,
        recommended=recommended,
        course=course,
        settings=() if recommended is None else _settings(training, recommended, request),
        problems=tuple(problems),
        notes=tuple(_notes(training, request, course)),
    )


def _training(config: RunConfig, evaluation: str | None) -> Training:
    if evaluation is not None and evaluation not in config.evaluations:
        known = ", ".join(config.evaluations) or "none"
        raise ValueError(f"evaluation {evaluation!r} is not in the recipe, which has {known}")
    if evaluation is None and config.tokenizer is not None:
        raise ValueError(
            "tokenizer: the training of a tokenizer is not planned for; null, or --evaluation NAME"
        )
    protocol = None if evaluation is None else config.evaluations[evaluation].protocol
    if protocol in FROZEN_PROTOCOLS or protocol == "detect":
        why = "is not planned for" if protocol == "detect" else "trains nothing on the stream of samples"
        raise ValueError(
            f"evaluation {evaluation!r} is of protocol {protocol}, which {why}; finetune and linear_probe are"
        )
    return Training(config=config, output="", catalog="", evaluation=evaluation)


def _problems(
    training: Training, request: Request, *, gpu_name: str, precision: str, peak: float | None
) -> Iterator[str]:
    resources, train = training.config.resources, training.train
    whole, unit = train.global_batch, request.gpus * train.repeats
    if whole % unit:
        counts = [str(count) for count in divisors(whole) if whole % (count * train.repeats) == 0]
        below = [count for count in counts if int(count) < request.gpus][-3:]
        batches = [str(batch) for batch in (whole // unit * unit, whole // unit * unit + unit) if batch]
        crops = f", in groups of {train.repeats} crops" if train.repeats > 1 else ""
        gpus = f"{', '.join(below)} GPUs, or " if below else ""
        yield (
            f"train.global_batch: {whole} cannot be divided among {request.gpus} GPUs{crops}; {gpus}a "
            f"global_batch of {' or '.join(batches)} would do"
        )
    if peak is None:
        others = "fp16" if precision == "bf16" else "bf16"
        yield (
            f"train.precision: {train.precision} means {precision}, for which no peak of {gpu_name} is "
            f"known; {others}, or a resources.peak_tflops would do"
        )
    if resources.offload != "none":
        yield (
            f"resources.offload: {resources.offload} is not planned for, because what moves to the host and "
            "back decides then; none would do"
        )


def _course(training: Training, choice: Choice, request: Request, *, peak: float) -> Course:
    operations, train = training.operations(num_classes=0), training.train
    # What is computed twice does not count as work done, but takes its time.
    executed = operations + (recomputed_operations(training) if choice.checkpointing else 0)
    rate = request.mfu * peak * 1e12 * request.gpus / executed
    feed = feeding(
        _decoding(training.config, request),
        samples_per_second=rate,
        repeats=train.repeats,
        sample_pixel_bytes=pixel_bytes(training),
        node_cpus=request.node_cpus,
    )
    return Course(
        mfu=request.mfu * operations / executed,
        samples_per_second=rate,
        feeding=feed,
        bill=_bill(train, request, rate=rate, cpus=feed.nodes * request.node_cpus),
    )


def _bill(train: TrainConfig, request: Request, *, rate: float, cpus: int) -> Bill | None:
    if train.length.unit == "epochs" and request.samples is None:
        return None
    steps = train.length.steps(samples_per_epoch=request.samples or 0, global_batch=train.global_batch)
    seconds = steps * train.global_batch / rate
    gpu_hours, cpu_hours = request.gpus * seconds / 3600, cpus * seconds / 3600
    prices = request.price_gpu_hour, request.price_cpu_hour
    cost = None if prices == (None, None) else gpu_hours * (prices[0] or 0) + cpu_hours * (prices[1] or 0)
    return Bill(steps=steps, seconds=seconds, gpu_hours=gpu_hours, cpu_hours=cpu_hours, cost=cost)


def _decoding(config: RunConfig, request: Request) -> Decoding:
    found = VIDEO if config.input.frames > 1 else IMAGE
    if request.decode_seconds is not None:
        found = replace(found, seconds=request.decode_seconds, source="as given")
    if request.sample_bytes is not None:
        found = replace(found, sample_bytes=request.sample_bytes)
    return found


def _settings(training: Training, choice: Choice, request: Request) -> tuple[str, ...]:
    above = "" if request.evaluation is None else f"evaluations.{request.evaluation}."
    workers = f"{above}workers" if above else "resources.workers"
    is_probe = training.protocol is not None and training.protocol.protocol == "linear_probe"
    is_zero = training.config.resources.engine == "deepspeed" and not is_probe
    return (
        f"{workers}={request.gpus}",
        *([f"resources.zero_stage={choice.stage}"] if is_zero else []),
        f"{above}train.micro_batch={choice.micro_batch}",
        f"{above}train.activation_checkpointing={str(choice.checkpointing).lower()}",
    )


def _notes(training: Training, request: Request, course: Course | None) -> Iterator[str]:
    yield (
        "memory: by formula, compared with real steps on a CPU and not on a GPU "
        f"(benchmarks/memory/2026-11-22.md); {100 * (1 - USABLE):.0f}% and {RESERVED_BYTES / 1e9:.0f} GB are "
        "kept free, an assumption"
    )
    if course is None:
        return
    published = "; ".join(f"{mfu:.1%} {source}" for mfu, source in PUBLISHED_MFU.items())
    yield f"MFU: {request.mfu:.0%} is {'assumed' if request.mfu == MFU else 'as given'}. Others: {published}"
    yield f"decoding: {course.feeding.source}; planned {HEADROOM:g} times as fast as the training"
    its, train = training.config.input, training.train
    if request.decode_seconds is None and (its.height, its.width) != (224, 224):
        yield (
            f"decoding: that was for 224x224, not {its.height}x{its.width}; measure yours, as "
            "`mae-dist prepare` does, and give --decode-ms"
        )
    if request.decode_seconds is None and its.frames > 1 and train.repeats == 1:
        yield (
            "decoding: that video written once more by `mae-dist prepare` takes 22.7 ms "
            "(benchmarks/prepare/2026-11-21.md), and each of four crops of one decode (train.repeats=4) "
            f"{1000 * VIDEO.seconds_per_crop(4):.1f} ms"
        )
    if course.bill is None:
        yield "time: --samples, the size of the training set, tells how long it takes"
