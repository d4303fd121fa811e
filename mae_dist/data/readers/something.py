"""Something-Something V2: short clips <id>.webm, listed in JSON with the template each acts out.

    train.json, validation.json, test.json   [{"id": "78687", "template": "Holding [something]"}, ...]
    labels.json                              {"Holding something": "41", ...}

The class of a clip is its template without the brackets. The test list has no templates.
"""

from __future__ import annotations

import json
from typing import Any

from mae_dist.data.catalog import Catalog
from mae_dist.data.readers.official import Listed, catalog_of_listed, find_annotations
from mae_dist.data.readers.source import Request, Source, SourceError, read_text

SPLITS = ("train", "val", "test")
_FILE_OF_SPLIT = {"train": "train", "val": "validation", "test": "test"}
_PREFIX = "something-something-v2-"


def read_something(source: Source, request: Request) -> Catalog:
    """One split; labels are those of labels.json."""
    assert request.split is not None
    name = f"{_FILE_OF_SPLIT[request.split]}.json"
    list_uri = find_annotations(source, request, [name, _PREFIX + name], what=f"the list of {request.split}")
    beside = Request(annotations=list_uri.rpartition("/")[0] or ".")
    labels_uri = find_annotations(
        source, beside, ["labels.json", f"{_PREFIX}labels.json"], what="the list of classes"
    )
    numbers = _read_classes(labels_uri)
    listed = []
    for place, entry in enumerate(_read_json(list_uri, list)):
        if not isinstance(entry, dict) or "id" not in entry:
            raise SourceError(
                f"{list_uri}: entry {place} is {str(entry)[:60]!r}; each needs 'id' and, but in test, "
                f"'template'"
            )
        listed.append(Listed(str(entry["id"]), _label(entry, numbers, list_uri, labels_uri)))
    classes = sorted(numbers, key=lambda template: numbers[template])
    return catalog_of_listed(
        source, listed, list_uri=list_uri, dataset="something_v2", split=request.split, classes=classes
    )


def _label(entry: dict[str, Any], numbers: dict[str, int], list_uri: str, labels_uri: str) -> int:
    if entry.get("template") is None:
        return -1
    template = str(entry["template"]).replace("[", "").replace("]", "")
    if template not in numbers:
        raise SourceError(
            f"{list_uri}: video {entry['id']} has the template {template!r}, which {labels_uri} does not "
            f"name; both must be of one release"
        )
    return numbers[template]


def _read_classes(uri: str) -> dict[str, int]:
    given = _read_json(uri, dict)
    try:
        numbers = {template: int(number) for template, number in given.items()}
    except (TypeError, ValueError):
        numbers = {}
    if not numbers or sorted(numbers.values()) != list(range(len(numbers))):
        raise SourceError(
            f"{uri}: must map each template to a number from 0 on, every number once; got {str(given)[:60]}"
        )
    return numbers


def _read_json(uri: str, kind: type) -> Any:
    try:
        content = json.loads(read_text(uri))
    except json.JSONDecodeError as error:
        raise SourceError(f"{uri}: is not JSON: {error}") from error
    if not isinstance(content, kind):
        raise SourceError(f"{uri}: holds a {type(content).__name__} of JSON, and needs a {kind.__name__}")
    return content
