"""What is wrong with a recipe: where, what was given, what would be right, and who gave it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

SCREEN_LINES = 30
"""Problems shown; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `path` is the dotted field, or empty when the whole recipe is meant."""

    path: str
    message: str
    source: str = ""
    """`recipe.yaml:line` or `--set a.b=c`; empty when nobody gave the value."""
    hides_more: bool = False
    """Whether values are missing because of it, so that the others cannot be judged."""

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.message}" + (f" (from {self.source})" if self.source else "")


class ConfigError(ValueError):
    """A recipe with mistakes, all of them, one per line."""

    def __init__(self, recipe: str, problems: Sequence[Problem]) -> None:
        super().__init__(recipe, problems)
        self.recipe = recipe
        self.problems = tuple(problems)

    def __str__(self) -> str:
        shown = [f"  {problem}" for problem in self.problems[:SCREEN_LINES]]
        if len(self.problems) > SCREEN_LINES:
            shown.append(f"  ... and {len(self.problems) - SCREEN_LINES} more")
        return "\n".join([f"{self.recipe}: {len(self.problems)} problem(s)", *shown])


def suggestion(given: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` if a known word is close to the one given, else nothing."""
    close = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def shown(value: Any) -> str:
    """A value as its writer would recognise it, in one short piece."""
    if isinstance(value, dict):
        return "a mapping"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def reworded(kind: str, message: str, given: Any, context: dict[str, Any]) -> str:
    """pydantic's error as what would be right, then what was given; `kind` is its error type."""
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return _not_a_choice(context["expected"], given)
    rules = {
        "int": "must be a whole number",
        "float": "must be a number",
        "finite": "must be a finite number",
        "bool": "must be true or false",
        "string": "must be text (in quotes if it looks like something else)",
        "dataclass": "must be a mapping of fields",
        "dict": "must be a mapping of names",
        "tuple": "must be a list",
        "greater_than": f"must be greater than {context.get('gt', 0):g}",
        "greater_than_equal": f"must be at least {context.get('ge', 0):g}",
        "less_than": f"must be less than {context.get('lt', 0):g}",
        "less_than_equal": f"must be at most {context.get('le', 0):g}",
    }
    if kind in rules:
        return f"{rules[kind]}, got {shown(given)}"
    if kind in ("missing", "too_long", "too_short"):
        return f"has too {'many' if kind == 'too_long' else 'few'} values, got {shown(given)}"
    return f"{rules.get(kind.partition('_')[0], message)}, got {shown(given)}"


def _not_a_choice(expected: str, given: Any) -> str:
    choices = [word.strip(" '") for word in expected.replace(" or ", ", ").split(",")]
    close = suggestion(given, choices) if isinstance(given, str) else ""
    return f"must be one of {', '.join(choices)}, got {shown(given)}{close}"
