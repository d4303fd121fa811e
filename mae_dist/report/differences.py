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
    """Fields that are not the same in all configs, in the order in which they appear; {} for one config."""
    flat = [dict(_leaves(config, "")) for config in configs]
    fields = dict.fromkeys(field for its in flat for field in its if field not in _ASIDE)
    values = {field: [its.get(field) for its in flat] for field in fields}
    return {field: its for field, its in values.items() if any(value != its[0] for value in its)}


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, below in value.items():
            yield from _leaves(below, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def value_words(value: Any) -> str:
    """A value as `--set` takes it: null, true, 0.1, [2, 8], text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
