"""What the classes of the schema hold: which fields are sections themselves, and which must be given."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from mae_dist.config.duration import Duration
from mae_dist.config.schema import RunConfig
from mae_dist.config.workers import WorkerRange

VALUES = (Duration, WorkerRange)
"""Written as one value in a recipe, though they have fields."""


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """Resolved types of a section's fields, constraints kept."""
    return typing.get_type_hints(cls, include_extras=True)


def alternatives(hint: Any) -> Iterator[Any]:
    """The types that a hint allows, without Annotated and Optional around them."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        yield from alternatives(typing.get_args(hint)[0])
    elif origin in (typing.Union, types.UnionType):
        for option in typing.get_args(hint):
            yield from alternatives(option)
    else:
        yield hint


def is_number(hint: Any) -> bool:
    """Whether a field takes a whole or real number."""
    return any(option in (int, float) for option in alternatives(hint))


def section_of(hint: Any) -> type | None:
    """The config class that a field holds, if it holds one."""
    for option in alternatives(hint):
        if isinstance(option, type) and dataclasses.is_dataclass(option) and option not in VALUES:
            return option
    return None


def entries_of(hint: Any) -> type | None:
    """The config class of the entries of a field that maps names to sections (evaluations)."""
    return section_of(typing.get_args(hint)[1]) if typing.get_origin(hint) is dict else None


def is_required(field: dataclasses.Field[Any]) -> bool:
    """Whether a field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def is_needed(field: dataclasses.Field[Any], beside: Mapping[str, Any]) -> bool:
    """Whether a field must be given beside these values: always, or by the protocol that they name."""
    if "needed_unless" in field.metadata:
        return beside.get("protocol") not in field.metadata["needed_unless"]
    return is_required(field)


def dotted_fields(
    cls: type = RunConfig, prefix: str = ""
) -> Iterator[tuple[str, type, dataclasses.Field[Any]]]:
    """(dotted path, owning class, field) of every field that takes a value; NAME stands for a free name."""
    for field in dataclasses.fields(cls):
        hint = hints(cls)[field.name]
        path = f"{prefix}{field.name}"
        below, section = entries_of(hint), section_of(hint)
        if below is not None:
            yield from dotted_fields(below, f"{path}.NAME.")
        elif section is not None:
            yield from dotted_fields(section, f"{path}.")
        else:
            yield path, cls, field
