"""UCF101 and HMDB51: small benchmarks with three official divisions into training and test videos.

UCF101    classInd.txt ("1 ApplyEyeMakeup"), testlist01.txt ("Archery/v_Archery_g01_c01.avi"), trainlist01.txt
          (likewise, and the number of the class)
HMDB51    brush_hair_test_split1.txt, one file per class: "name.avi 1", 1 training, 2 test, 0 neither
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from mae_dist import storage
from mae_dist.data.catalog import Catalog
from mae_dist.data.readers.official import Listed, catalog_of_listed, find_annotations
from mae_dist.data.readers.source import Request, Source, SourceError, examples, name_of, read_text

SPLITS = tuple(f"{part}{fold}" for part in ("train", "test") for fold in (1, 2, 3))
_READERS = 16
_HMDB_PART = {"0": None, "1": "train", "2": "test"}


def read_ucf101(source: Source, request: Request) -> Catalog:
    """One part of one division; labels are the numbers of classInd.txt, from 0 on."""
    assert request.split is not None
    part, fold = request.split[:-1], request.split[-1]
    names = [f"{part}list0{fold}.txt"]
    list_uri = find_annotations(source, request, names, what=f"the list of {request.split}")
    beside = Request(annotations=list_uri.rpartition("/")[0] or ".")
    classes_uri = find_annotations(source, beside, ["classInd.txt"], what="the list of classes")
    classes = []
    for line, (number, name) in _pairs(classes_uri, "a number and a class"):
        if number != str(len(classes) + 1):
            raise SourceError(
                f"{classes_uri}: line {line}: class {len(classes) + 1} expected, got {number!r}"
            )
        classes.append(name)
    labels = {name: number for number, name in enumerate(classes)}
    listed = []
    for line, (path, *number) in _pairs(list_uri, "a path and, in training, a number", at_least=1):
        name = path.rpartition("/")[0]
        if name not in labels or (number and number != [str(labels[name] + 1)]):
            raise SourceError(
                f"{list_uri}: line {line}: {' '.join([path, *number])!r} is of no class of {classes_uri}; a "
                f"path begins with its class, and the number is that of the class"
            )
        listed.append(Listed(path.rpartition(".")[0], labels[name]))
    return catalog_of_listed(
        source, listed, list_uri=list_uri, dataset="ucf101", split=request.split, classes=classes
    )


def read_hmdb51(source: Source, request: Request) -> Catalog:
    """One part of one division; labels are the class names in alphabetical order."""
    assert request.split is not None
    part, fold = request.split[:-1], request.split[-1]
    ending = f"_test_split{fold}.txt"
    if request.annotations is not None:
        found = [storage.join(request.annotations, name) for name in storage.list_dir(request.annotations)]
    else:
        found = source.uris
    lists = sorted((uri for uri in found if uri.endswith(ending)), key=name_of)
    where = request.annotations or source.uri
    if not lists:
        raise SourceError(
            f"{where}: the lists of division {fold} are not there (looked for <class>{ending}, found "
            f"{examples(found)}); say where they are with --annotations"
        )
    classes = [name_of(uri).removesuffix(ending) for uri in lists]
    if len(set(classes)) < len(classes):
        raise SourceError(
            f"{where}: the lists of division {fold} are there twice; say which with --annotations"
        )
    listed = []
    with ThreadPoolExecutor(_READERS) as pool:
        for label, lines in enumerate(pool.map(_hmdb_lines, lists)):
            listed += [Listed(f"{classes[label]}/{name}", label) for name, its in lines if its == part]
    return catalog_of_listed(
        source, listed, list_uri=f"<class>{ending}", dataset="hmdb51", split=request.split, classes=classes
    )


def _hmdb_lines(uri: str) -> list[tuple[str, str | None]]:
    """(name without ending, "train", "test" or None) of each line."""
    found = []
    for line, (name, number) in _pairs(uri, "a name and 0, 1 or 2"):
        if number not in _HMDB_PART:
            raise SourceError(f"{uri}: line {line}: 0, 1 or 2 expected after the name, got {number!r}")
        found.append((name.rpartition(".")[0], _HMDB_PART[number]))
    return found


def _pairs(uri: str, what: str, *, at_least: int = 2) -> Iterator[tuple[int, list[str]]]:
    """The number and the words of each line that is not empty."""
    for line, text in enumerate(read_text(uri).splitlines(), start=1):
        words = re.split(r"\s+", text.strip())
        if words == [""]:
            continue
        if not at_least <= len(words) <= 2:
            raise SourceError(f"{uri}: line {line}: {text[:80]!r}; a line is {what}")
        yield line, words
