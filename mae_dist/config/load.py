"""From a recipe and --set values to a RunConfig, or to all mistakes at once.

recipe file, extends, --set   tree.py: one tree of values that know their source
  -> known fields only        unknown ones are named, with the field that was probably meant
  -> pydantic                 types, choices and ranges of single fields
  -> contradictions.py        what concerns several fields; those that are valid are still checked
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from mae_dist.config import studies
from mae_dist.config.contradictions import contradictions
from mae_dist.config.problems import ConfigError, Problem, reworded, shown, suggestion
from mae_dist.config.schema import EvaluationConfig, RunConfig
from mae_dist.config.sections import (
    dotted_fields,
    entries_of,
    hints,
    is_needed,
    is_number,
    is_required,
    section_of,
)
from mae_dist.config.studies import StudyConfig
from mae_dist.config.tree import (
    STUDIES,
    Given,
    Tree,
    merge,
    plain,
    read_recipe,
    read_setting,
    source_of,
    study_names,
)

STAND_INS: dict[str, Any] = {
    "name": "unnamed",
    "catalog": "none",
    "size": "mae_base",
    "length": "1 epochs",
    "global_batch": 1,
    "micro_batch": 1,
    "base_lr": 1.0,
    "weight": 1.0,
    "protocol": "finetune",
    "value": 0.0,
    "source": "none",
    "title": "untitled",
    "heading": "value",
    "axis": (),
    "data": "in1k",
    "recipe": "none",
}
"""A valid value for each required field: a missing one must not keep the others from being checked."""

NUM_ROUNDS = 10
"""More than sections are nested."""


def load(recipe: str, settings: Sequence[str] = ()) -> RunConfig:
    """The config of a packaged recipe ("pretrain/k400") or of a YAML file, with `a.b=c` settings on top.

    A null entry of `evaluations` leaves an inherited evaluation out. Raises ConfigError with every mistake.
    """
    return _checked(recipe, RunConfig, *_tree(recipe, settings))


def load_without_samples(recipe: str, settings: Sequence[str] = ()) -> RunConfig:
    """The same of a run whose training samples nobody has named yet; they are called "none" then."""
    tree, problems = _tree(recipe, settings)
    unnamed: Tree = {"catalog": Given(STAND_INS["catalog"], "")}
    data = tree.get("data", {})
    mix = data.get("mix") if isinstance(data, dict) else None
    if isinstance(mix, dict) and mix:
        sources: Tree = dict.fromkeys(mix, unnamed)
        tree = merge({"data": {"mix": sources}}, tree)
    else:
        tree = merge({"data": unnamed}, tree)
    return _checked(recipe, RunConfig, tree, problems)


def load_section(recipe: str, settings: Sequence[str] = ()) -> EvaluationConfig:
    """The same for a recipe of one evaluation ("probe/in1k"), as `evaluations.NAME.extends` uses it."""
    return _checked(recipe, EvaluationConfig, *_tree(recipe, settings))


def load_study(name: str) -> StudyConfig:
    """A packaged study ("mae/decoder_depth") or that of a file. Raises ConfigError with every mistake."""
    if name.endswith((".yaml", ".yml")):
        return _checked(name, StudyConfig, *_tree(name, ()))
    known = study_names()
    if name not in known:
        hint = suggestion(name, known) or f"; there are {', '.join(known)}"
        raise ConfigError(name, [Problem("", f"no study {name!r}{hint}")])
    return _checked(name, StudyConfig, *_tree(f"{STUDIES}{name}", ()))


def from_dict(values: Mapping[str, Any], *, label: str = "config") -> RunConfig:
    """The config that `to_dict` describes; raises ConfigError, headed by `label`, if it has mistakes."""
    tree = _given(values, label)
    assert isinstance(tree, dict)
    return _checked(label, RunConfig, tree, [])


def to_dict(config: Any) -> dict[str, Any]:
    """A config (or a section of one) as plain JSON values, every field written out."""
    return _adapter(type(config)).dump_python(config, mode="json")


def to_yaml(config: Any) -> str:
    """A config as a recipe with every field written out; loading it gives an equal config."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True, width=100)


def digest(obj: Any) -> str:
    """12 hex digits of the SHA-256 of the canonical JSON of plain values or config sections."""
    text = json.dumps(
        obj, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=to_dict
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _given(values: Any, source: str) -> Tree | Given:
    if isinstance(values, Mapping):
        return {str(key): _given(value, source) for key, value in values.items()}
    return Given(values, source)


def _tree(recipe: str, settings: Sequence[str]) -> tuple[Tree, list[Problem]]:
    problems: list[Problem] = []
    tree = read_recipe(recipe, Path(), problems)
    for setting in settings:
        tree = merge(tree, read_setting(setting, problems))
    if any(problem.hides_more for problem in problems):
        raise ConfigError(recipe, problems)
    return tree, problems


def _checked(recipe: str, cls: type, tree: Tree, problems: list[Problem]) -> Any:
    if cls is RunConfig and "protocol" in tree and "model" not in tree:
        raise ConfigError(recipe, [_is_a_section(recipe)])
    values = _known_fields(tree, cls, (), problems)
    config, invalid = _validated(cls, values, tree, problems)
    findings: Iterable[tuple[str, str]] = ()
    if isinstance(config, RunConfig):
        findings = contradictions(config, invalid=invalid)
    elif isinstance(config, StudyConfig) and not invalid:
        findings = studies.contradictions(config)
    for path, message in findings:
        problems.append(Problem(path, message, _source(tree, tuple(path.split(".")))))
    if problems:
        raise ConfigError(recipe, list(dict.fromkeys(problems)))
    return config


def _validated(
    cls: type, values: dict[str, Any], tree: Tree, problems: list[Problem]
) -> tuple[Any, list[str]]:
    """(config, dotted paths that were wrong); the config has stand-ins where a value was wrong.

    Goes round again because a section's own check runs only once all its fields are valid.
    """
    invalid: list[str] = []
    for _ in range(NUM_ROUNDS):
        try:
            return _adapter(cls).validate_python(values), invalid
        except ValidationError as error:
            wrong = error.errors()
        for details in wrong:
            where = tuple(part for part in details["loc"] if isinstance(part, str))
            invalid.append(".".join(where))
            problems.append(_problem(tree, where, details))
        for path in list(dict.fromkeys(invalid)):
            _stand_in(values, cls, path.split("."))
    return None, invalid


def _known_fields(tree: Tree, cls: type, above: tuple[str, ...], problems: list[Problem]) -> dict[str, Any]:
    """The values of the fields that `cls` has; sections that must be given are there, if only empty."""
    known: dict[str, Any] = {}
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name, value in tree.items():
        path = (*above, name)
        if name not in fields:
            problems.append(_unknown(path, cls, source_of(value)))
            continue
        hint = hints(cls)[name]
        section, entries = section_of(hint), entries_of(hint)
        if isinstance(value, dict) and entries is not None:
            known[name] = {
                entry: _known_fields(below, entries, (*path, entry), problems)
                if isinstance(below, dict)
                else below.value
                for entry, below in value.items()
                if below != Given(None, source_of(below))
            }
        elif isinstance(value, dict) and section is not None:
            known[name] = _known_fields(value, section, path, problems)
        elif isinstance(value, Given) and isinstance(value.value, bool) and is_number(hint):
            problems.append(
                Problem(".".join(path), f"must be a number, got {shown(value.value)}", value.source)
            )
        else:
            known[name] = plain(value)
    for name, field in fields.items():
        section = section_of(hints(cls)[name])
        if section is not None and name not in known and is_needed(field, known):
            known[name] = _known_fields({}, section, (*above, name), problems)
    return known


def _unknown(path: tuple[str, ...], cls: type, source: str) -> Problem:
    siblings = [field.name for field in dataclasses.fields(cls)]
    below = [known for known, _, _ in dotted_fields(cls, "".join(f"{name}." for name in path[:-1]))]
    for known in [*below, *(known for known, _, _ in dotted_fields())]:
        names = known.split(".")
        if path[-1] in names:  # right name, wrong section
            hint = f"; did you mean '{'.'.join(names[: names.index(path[-1]) + 1])}'?"
            break
    else:
        hint = suggestion(path[-1], siblings) or f"; there are {', '.join(siblings)}"
    return Problem(".".join(path), f"no such field{hint}", source)


def _problem(tree: Tree, where: tuple[str, ...], details: Any) -> Problem:
    path = ".".join(where)
    if details["type"] == "missing" and isinstance(details["loc"][-1], str):
        value = "URI" if where[-1].endswith("catalog") else "VALUE"
        return Problem(path, f"required; give --set {path}={value}")
    message = reworded(details["type"], details["msg"], details["input"], details.get("ctx", {}))
    # A section's own check names the field it is about with its first word.
    return Problem(path, message, _source(tree, (*where, message.split()[0])) or _source(tree, where))


def _source(tree: Tree, where: Sequence[str]) -> str:
    """Who gave the value at `where`, or the one thing given inside it."""
    value: Tree | Given = tree
    for name in where:
        if isinstance(value, Given) or name not in value:
            break
        value = value[name]
    else:
        return source_of(value)
    return value.source if isinstance(value, Given) else ""


def _stand_in(values: dict[str, Any], cls: type, where: Sequence[str]) -> None:
    """Put a valid value, or nothing where there is a default, in place of the one at `where`."""
    name, below = where[0], where[1:]
    field = next(field for field in dataclasses.fields(cls) if field.name == name)
    section, entries = section_of(hints(cls)[name]), entries_of(hints(cls)[name])
    if entries is not None and len(below) == 1:
        values[name].pop(below[0], None)
    elif entries is not None and below:
        _stand_in(values[name].get(below[0], {}), entries, below[1:])
    elif section is not None and below:
        _stand_in(values[name], section, below)
    elif is_required(field):
        values[name] = STAND_INS[name] if section is None else _known_fields({}, section, (), [])
    else:
        values.pop(name, None)


def _is_a_section(recipe: str) -> Problem:
    message = (
        f"is the recipe of one evaluation; use it in a run with --set evaluations.NAME.extends={recipe}, "
        f"or as `extends` inside its evaluations"
    )
    return Problem("", message)
