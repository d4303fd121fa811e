"""What the steps of a run will take of its machines, told before any of them starts.

Counted are the passes of samples through the model and their operations (model/operations.py), a classifier's
head left out. What else a step does is small beside them, or is bounded by reading and decoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mae_dist.config.probing import FROZEN_PROTOCOLS
from mae_dist.config.schema import RunConfig
from mae_dist.data.catalog import Catalog
from mae_dist.data.sources import is_drawn, num_drawn
from mae_dist.model.operations import forward_multiply_adds
from mae_dist.orchestrate.job import Job
from mae_dist.orchestrate.step import Step
from mae_dist.report import wording
from mae_dist.train.schedule import schedule_of
from mae_dist.train.training import Training

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
SUSTAINED = 100e12
"""Operations per second of the device in the last line of `describe_work`: a third of an A100's bf16."""


@dataclass(frozen=True, slots=True)
class Work:
    """What goes through the model."""

    passes: int
    """Views of samples, each time they are seen."""
    operations: int


def work_of(config: RunConfig, steps: Sequence[Step], catalogs: Mapping[str, Catalog]) -> dict[str, Work]:
    """The work of steps by their names, without those that have no model or whose samples are not known yet.

    `catalogs` are those that exist already, as `preflight.check_inputs` has found them. The number of a drawn
    set is in its name; how many of those have which label is not.
    """
    found = {}
    for step in steps:
        if isinstance(step.config, Job) and (work := _work(config, step, catalogs)) is not None:
            found[step.name] = work
    return found


def describe_work(work: Mapping[str, Work]) -> str:
    """All of it in one line."""
    operations = sum(its.operations for its in work.values())
    time = wording.duration(operations / SUSTAINED)
    return f"in all {scaled(operations)}FLOP: {time} on a device that sustains {scaled(SUSTAINED)}FLOP/s"


def scaled(number: float) -> str:
    """Three digits and a prefix of the unit that follows: 1.23 G."""
    prefix = 0
    while number >= 999.5 and prefix < len(PREFIXES) - 1:
        number, prefix = number / 1000, prefix + 1
    return f"{number:.3g} {PREFIXES[prefix]}"


def _work(config: RunConfig, step: Step, catalogs: Mapping[str, Catalog]) -> Work | None:
    job: Job = step.config
    if step.name == "pretrain":
        samples = _pretrained_on(config, catalogs)
        return _trained(config, None, samples) if config.weights is None else None
    if job.evaluation is None:
        return None
    protocol = config.evaluations[job.evaluation]
    if job.test_set is not None:
        return None  # its samples are listed by the step itself
    trained = _number(config, _labelled(config), catalogs, few=protocol.labels_per_class)
    tested = _number(config, "test_catalog", catalogs)
    if protocol.protocol not in FROZEN_PROTOCOLS:
        training = _trained(config, job.evaluation, trained)
        if training is None or tested is None:
            return None
        return _sum(training, _looked_at(config, tested * protocol.views.count))
    if job.features is not None or trained is None or tested is None:
        return None  # learns from what another step has kept
    views = protocol.features.drawn_views or protocol.views.count
    return _looked_at(config, trained * views + tested * protocol.views.count)


def _trained(config: RunConfig, evaluation: str | None, samples: int | None) -> Work | None:
    training = Training(config=config, output="", catalog="", evaluation=evaluation)
    if samples is None:
        if training.train.length.unit == "epochs":
            return None
        samples = training.train.global_batch  # an epoch's length decides nothing
    schedule = schedule_of(training.train, samples_per_epoch=samples)
    passes = schedule.total_steps * training.train.global_batch
    return Work(passes, passes * training.operations(num_classes=0))


def _looked_at(config: RunConfig, passes: int) -> Work:
    """Views of samples that a whole encoder sees once."""
    forward = forward_multiply_adds(config.architecture, config.grid)
    return Work(passes, passes * 2 * forward.encoder)


def _sum(first: Work, second: Work) -> Work:
    return Work(first.passes + second.passes, first.operations + second.operations)


def _pretrained_on(config: RunConfig, catalogs: Mapping[str, Catalog]) -> int | None:
    numbers = [_number(config, field, catalogs) for field in config.data.sources]
    return sum(number for number in numbers if number is not None) if None not in numbers else None


def _labelled(config: RunConfig) -> str:
    return "catalog" if config.data.labelled is None else f"mix.{config.data.labelled}.catalog"


def _number(
    config: RunConfig, field: str, catalogs: Mapping[str, Catalog], *, few: int | None = None
) -> int | None:
    """Samples of a field of `data`, or so `few` of each label."""
    if field in catalogs:
        catalog = catalogs[field]
        return catalog.num_samples if few is None else catalog.subset(few).num_samples
    source = (config.data.sources | {"test_catalog": config.data.test_catalog}).get(field)
    return num_drawn(source) if source is not None and is_drawn(source) and few is None else None
