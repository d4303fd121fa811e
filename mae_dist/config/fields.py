"""The schema as a reference for people: every field with its type, its default and its documentation.

The documentation is the string below the field in the source of the schema, so that it is written once.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import typing
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from mae_dist.config.duration import Duration
from mae_dist.config.schema import RunConfig
from mae_dist.config.sections import dotted_fields, hints, is_required
from mae_dist.config.workers import WorkerRange


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """One knob of a recipe."""

    path: str
    """As --set takes it; NAME stands for a name of the user's choice."""
    type: str
    default: str
    doc: str
    """In one line; empty where the name says it."""
    section_doc: str
    """What the section is that the field belongs to."""


def field_infos() -> list[FieldInfo]:
    """Every field that --set reaches, sections in the order of the schema."""
    return [
        FieldInfo(
            path=path,
            type=_type_text(hints(owner)[field.name]),
            default=_default_text(owner, field),
            doc=_docs(owner).get(field.name, ""),
            section_doc=_one_line(inspect.getdoc(owner) or ""),
        )
        for path, owner, field in dotted_fields(RunConfig)
    ]


def _one_line(text: str) -> str:
    return " ".join(text.split())


@functools.cache
def _docs(cls: type) -> dict[str, str]:
    """The string literal that follows each field in the source of a class."""
    body = ast.parse(inspect.cleandoc(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[statement.target.id] = _one_line(text)
    return found


def _default_text(owner: type, field: dataclasses.Field[Any]) -> str:
    if is_required(field):
        return "required"
    default = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
    value = TypeAdapter(hints(owner)[field.name]).dump_python(default, mode="json")
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _type_text(hint: Any) -> str:
    """A type as a recipe's author thinks of it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _type_text(args[0]) + _range_text(args[1:])
    if origin is typing.Literal:
        return " | ".join(str(choice) for choice in args)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return f"list of {_type_text(args[0])}"
        return f"[{', '.join(_type_text(arg) for arg in args)}]"
    if args:
        return " or ".join(_type_text(arg) for arg in args)
    names = {
        int: "integer",
        float: "number",
        bool: "true | false",
        str: "text",
        type(None): "null",
        Duration: "duration, '20 epochs' or '300 steps'",
        WorkerRange: "integer > 0 or [least, most]",
    }
    return names[hint]


def _range_text(metadata: tuple[Any, ...]) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    rules = [rule for extra in metadata for rule in getattr(extra, "metadata", [])]
    bounds = [
        f"{signs[name]} {getattr(rule, name):g}" for rule in rules for name in signs if hasattr(rule, name)
    ]
    return f" {' and '.join(bounds)}" if bounds else ""
