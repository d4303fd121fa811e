"""The packaged recipes: what each of them trains, on what, with how many operations, and what to expect."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mae_dist.config.data_sets import DATA_SETS
from mae_dist.config.load import load_without_samples
from mae_dist.config.problems import ConfigError
from mae_dist.config.schema import RunConfig
from mae_dist.config.tree import RECIPES
from mae_dist.data.sources import is_drawn, num_drawn
from mae_dist.model.operations import forward_multiply_adds
from mae_dist.train.schedule import schedule_of
from mae_dist.train.training import Training

EVALUATION = "recipe"
"""What the evaluation of a recipe is called in the run that it is put into."""


@dataclass(frozen=True, slots=True)
class Packaged:
    """One recipe, as `mae-dist recipes` lists it."""

    name: str
    model: str | None
    """Of an evaluation, the model of the run that it is made for; None if it is made for any."""
    data: str | None
    operations: int | None
    """Of its training, two per multiply-add, or of the extraction of features; not of tests. None where the
    number of samples depends on who runs it."""
    expected: str
    """Published numbers in percent: of fine-tuning, then of others with their names; "" if there is none."""


def header(name: str) -> str:
    """The comment that a recipe begins with, without its signs."""
    lines = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:end])


def matching(names: Sequence[str], words: Sequence[str]) -> list[str]:
    """The recipes that have every word, be it in the name or in the header, in capitals or not.

    A recipe that is named by its whole name is meant alone.
    """
    if len(words) == 1 and words[0] in names:
        return list(words)
    texts = {name: f"{name}\n{header(name)}".lower() for name in names}
    return [name for name in names if all(word.lower() in texts[name] for word in words)]


def run_of(section: str, names: Collection[str]) -> str | None:
    """The run that an evaluation is made for: finetune/k400_large_paper is for pretrain/k400_large.

    It is the one with most of the words of the evaluation's name, and no others.
    """
    words = _words(section)
    runs = [name for name in names if name.startswith("pretrain/") and _words(name) <= words]
    return max(runs, key=lambda run: len(_words(run)), default=None)


def run_with(section: str, names: Collection[str]) -> RunConfig | None:
    """That run with this evaluation, called EVALUATION, and no other; None if there is none."""
    run = run_of(section, names)
    if run is None:
        return None
    return load_without_samples(run, ["evaluations={}", f"evaluations.{EVALUATION}.extends={section}"])


def describe(name: str, names: Collection[str]) -> Packaged:
    """One line of the list; `names` are all there are."""
    try:
        is_run = name.startswith("pretrain/")
        config = load_without_samples(name) if is_run else run_with(name, names)
    except ConfigError:
        config = None  # neither a run nor one of its evaluations: it has a command of its own
    if config is None:
        return Packaged(name, None, None, None, "")
    # What a name says behind "from" is where its weights come from.
    keys = [key for key in DATA_SETS if key in _words(name.partition("_from_")[0])]
    data = DATA_SETS[keys[0]].name if len(keys) == 1 else " + ".join(keys) or _drawn(config)
    samples = sum(DATA_SETS[key].num_train for key in keys) or _num_drawn(config)
    return Packaged(
        name,
        config.model.size,
        data,
        _operations(config, None if is_run else EVALUATION, samples),
        _expected(config),
    )


def _words(name: str) -> set[str]:
    return set(name.rpartition("/")[2].split("_"))


def _drawn(config: RunConfig) -> str | None:
    return None if _num_drawn(config) is None else "drawn by the run"


def _num_drawn(config: RunConfig) -> int | None:
    catalog = config.data.catalog
    return num_drawn(catalog) if catalog is not None and is_drawn(catalog) else None


def _operations(config: RunConfig, evaluation: str | None, samples: int | None) -> int | None:
    protocol = None if evaluation is None else config.evaluations[evaluation]
    if samples is None or (protocol is not None and protocol.labels_per_class is not None):
        return None
    if protocol is not None and protocol.train is None:
        passes = samples * (protocol.features.drawn_views or protocol.views.count)
        return passes * 2 * forward_multiply_adds(config.model.architecture, config.grid).encoder
    training = Training(config=config, output="", catalog="", evaluation=evaluation)
    steps = schedule_of(training.train, samples_per_epoch=samples).total_steps
    return steps * training.train.global_batch * training.operations(num_classes=0)


def _expected(config: RunConfig) -> str:
    numbers, others = [], []
    for name, its in config.evaluations.items():
        if its.published is None:
            continue
        if its.protocol in ("finetune", "detect") or name == EVALUATION:
            numbers.append(f"{its.published.value:g}")
        else:
            others.append(f"{name.replace('_', ' ')} {its.published.value:g}")
    return " ".join([*numbers, *(f"({other})" for other in others)])
