"""In which fields the configs of several runs differ, as plain data: {field: [value of each run]}.

A field is written as `--set` takes it: "train.optim.base_lr". What a config does not have is null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_ASIDE = {"storage"}
"""Where a run lies is no property of it."""


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Fields that are not the same in all configs, in the order in which they appear; {} for one config.

    Of a section that some do not have at all it is the whole section that differs.
    """
    aside = [{name: its for name, its in config.items() if name not in _ASIDE} for config in configs]
    return dict(_differing(aside, ""))


def _differing(values: Sequence[Any], path: str) -> Iterator[tuple[str, list[Any]]]:
    if all(isinstance(value, Mapping) for value in values):
        for name in dict.fromkeys(name for value in values for name in value):
            yield from _differing(
                [value.get(name) for value in values], f"{path}.{name}" if path else str(name)
            )
    elif any(value != values[0] for value in values):
        yield path, list(values)


def value_words(value: Any) -> str:
    """A value as `--set` takes it: null, true, 0.1, [2, 8], text without quotes; a section by its fields."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(map(str, value))}}}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
