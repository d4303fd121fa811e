"""What a study is: a table of a paper, as runs that differ along its axis, beside what was published of each.

A study is a YAML file of recipes/studies; `load.load_study` reads it. Rows of the table are its values,
columns its numbers: of which recipe's run, by which evaluation. Every value says in the words of --set what
it changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from mae_dist.config import data_sets

Scale = Literal["mini", "full"]
SCALES: tuple[Scale, ...] = ("mini", "full")
DataSetName = Literal["in1k", "k400", "ssv2", "ucf101", "hmdb51", "ava"]
DATA_SETS: dict[DataSetName, str] = {key: data_sets.DATA_SETS[key].name for key in get_args(DataSetName)}
"""What the samples of a column are called, and how people know them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnConfig:
    """One number per value: an evaluation of a recipe's run."""

    heading: str
    data: DataSetName | None = None
    """Samples of the run at full scale; --data says where they lie."""
    recipe: str | None = None
    """Of the run at full scale."""
    evaluation: str | None = None
    """Its name in the recipe; from the starting point that the recipe names first."""
    mini: str | None = None
    """Recipe of a small run that stands for it at mini scale; null: the column is not measured there."""
    unavailable: str | None = None
    """Why this project has no such number, in place of data, recipe and evaluation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainingConfig:
    """A run that comes first: a column evaluates its weights on samples of its own, or predicts its codes."""

    data: DataSetName
    recipe: str
    mini: str | None = None
    """In its place at mini scale; null: the value is not measured there."""
    field: Literal["weights", "target.tokenizer"] = "weights"
    """What of the column's run it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueConfig:
    """One row: what is changed, and what was published of it."""

    settings: tuple[str, ...] = ()
    """As --set takes them, of fields below `axis`; none: the recipe as it is."""
    mini_settings: tuple[str, ...] | None = None
    """In their place at mini scale, where the numbers of a small model differ; null: the same."""
    recipe: str | None = None
    """At full scale in place of each column's, where a value has one of its own."""
    evaluation: str | None = None
    """In place of each column's."""
    pretraining: PretrainingConfig | None = None
    """Where the weights come from, if not from each column's own recipe, or the codes that are predicted."""
    published: dict[str, float] = field(default_factory=dict)
    """By column, in percent."""
    approximate: tuple[str, ...] = ()
    """Columns whose published number is read off a figure and was not found in print."""
    remark: str = ""
    """What else the paper says of it: memory, hours, operations."""
    unavailable: str | None = None
    """Why it cannot be run here. Its published numbers stay in the table."""
    only_full: bool = False
    """Whether it means nothing at mini scale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """A table of a paper."""

    title: str
    source: str
    """Paper and table."""
    metric: str = "top-1 accuracy"
    """What its numbers are, in percent."""
    axis: tuple[str, ...]
    """Fields of a recipe that the values change, or sections of it."""
    heading: str
    """What the values are, above the first column."""
    default: str | None = None
    """The value that the paper chooses, against which the others stand; null: none."""
    note: str = ""
    """Where our runs differ from the paper's, and what the paper says besides."""
    columns: dict[str, ColumnConfig] = field(default_factory=dict)
    values: dict[str, ValueConfig] = field(default_factory=dict)


def contradictions(study: StudyConfig) -> Iterator[tuple[str, str]]:
    """(dotted path, what is wrong and what would be right) of every contradiction in a study."""
    for name, entries in (("columns", study.columns), ("values", study.values)):
        if not entries:
            yield name, "a table has at least one of them"
    if study.default is not None and study.default not in study.values:
        yield "default", f"must be one of the values, {', '.join(study.values)}, got {study.default!r}"
    for key, column in study.columns.items():
        yield from _column(f"columns.{key}", column)
    for key, value in study.values.items():
        yield from _value(study, f"values.{key}", value)
    slugs: dict[str, str] = {}
    for key in study.values:
        if not slug(key) or slug(key) in slugs:
            like = f"; it reads like {slugs[slug(key)]!r}" if slug(key) in slugs else ""
            yield f"values.{key}", f"needs letters or digits of its own, which name its evaluations{like}"
        slugs[slug(key)] = key


def slug(label: str) -> str:
    """The letters and digits of a value's label, as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_")


def _column(path: str, column: ColumnConfig) -> Iterator[tuple[str, str]]:
    run = {"data": column.data, "recipe": column.recipe, "evaluation": column.evaluation}
    if column.unavailable is not None:
        needless = [name for name, its in (run | {"mini": column.mini}).items() if its is not None]
        if needless:
            yield path, f"is unavailable, and yet names {', '.join(needless)}; leave them out"
        return
    missing = [name for name, its in run.items() if its is None]
    if missing:
        yield path, f"needs {', '.join(missing)}, or says in `unavailable` why there is no such number"


def _value(study: StudyConfig, path: str, value: ValueConfig) -> Iterator[tuple[str, str]]:
    for name, keys in (("published", tuple(value.published)), ("approximate", value.approximate)):
        for key in keys:
            known = study.columns if name == "published" else value.published
            if key not in known:
                yield f"{path}.{name}", f"must be of {', '.join(known) or 'none'}, got {key!r}"
    for name in ("settings", "mini_settings"):
        for setting in getattr(value, name) or ():
            changed = setting.partition("=")[0].strip()
            if not any(f"{changed}.".startswith(f"{axis}.") for axis in study.axis):
                yield f"{path}.{name}", f"{setting}: is not of the axis, {', '.join(study.axis)}"
    how = (value.settings, value.recipe, value.evaluation, value.pretraining)
    if value.unavailable is not None and any(how):
        yield path, "is unavailable, and yet says how it is run; leave one of them out"
