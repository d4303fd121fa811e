"""The data sets of the papers: how many samples they train on, and how their clips are cut and tested.

Numbers of samples are those that VideoMAE and MAE train on (arXiv 2203.12602 and 2111.06377; of AVA, the
keyframes of arXiv 1705.08421 with people in them).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mae_dist.config.schema import RunConfig

Colours = tuple[float, float, float]
IMAGENET_MEAN: Colours = (0.485, 0.456, 0.406)
IMAGENET_STD: Colours = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """One public data set as the papers use it."""

    name: str
    words: str
    """What it is called in the names of files and runs: a regular expression, in small letters."""
    origin: str | None = None
    """What a catalog of it says that it was built as; None where catalogs of it are of ordinary folders."""
    num_train: int
    span: int | None = None
    """Frames of the video that a clip of 16 covers: 16 times the stride."""
    sampling: Literal["dense", "uniform"] = "dense"
    """How frames are chosen in fine-tuning."""
    views: tuple[int, int] = (1, 1)
    """Clips and crops of a test sample."""
    has_directions: bool = False
    """Whether labels tell left from right."""
    mean: Colours = IMAGENET_MEAN
    std: Colours = IMAGENET_STD


DATA_SETS: dict[str, DataSet] = {
    "in1k": DataSet(
        name="ImageNet-1k",
        words=r"in1k|ilsvrc|imagenet(?![-_]?(2[12]|[acr]\b|sketch))",
        num_train=1_281_167,
    ),
    "k400": DataSet(
        name="Kinetics-400",
        words=r"k400|kinetics[-_]?400",
        origin="kinetics400",
        num_train=240_436,
        span=64,
        views=(5, 3),
    ),
    "ssv2": DataSet(
        name="Something-Something V2",
        words=r"ssv2|sth[-_]?sth|something[-_]?(something|v2)",
        origin="something_v2",
        num_train=168_913,
        span=32,
        sampling="uniform",
        views=(2, 3),
        has_directions=True,
    ),
    "ucf101": DataSet(
        name="UCF101",
        words=r"ucf[-_]?101",
        origin="ucf101",
        num_train=9_537,
        span=64,
        views=(5, 3),
    ),
    "hmdb51": DataSet(
        name="HMDB51",
        words=r"hmdb[-_]?51",
        origin="hmdb51",
        num_train=3_570,
        span=32,
        views=(10, 3),
    ),
    "ava": DataSet(
        name="AVA 2.2",
        words=r"(?<![a-z0-9])ava(?![a-z])",
        origin="ava",
        num_train=211_000,
        span=64,
    ),
    "cifar10": DataSet(
        name="CIFAR-10",
        words=r"cifar[-_]?10(?!0)",
        num_train=50_000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
}
"""By what recipes call them."""


def known_data_sets(config: RunConfig, origins: Mapping[str, str] | None = None) -> dict[str, DataSet]:
    """The data sets that a run trains on, by the fields of `data` that name their samples.

    `origins` are what catalogs that exist say they were built as, by the same fields. Without one the words
    of the URI count, and where no URI tells anything, those of the run's name.
    """
    sources = config.data.sources
    found = {}
    for field, uri in sources.items():
        its = _by_origin((origins or {}).get(field)) or _by_words(uri)
        if its is not None:
            found[field] = its
    named = _by_words(config.name)
    return found if found or named is None else dict.fromkeys(sources, named)


def labelled_field(config: RunConfig) -> str:
    """The field of `data` whose samples evaluations train on; of a mix without labels, one of several."""
    labelled = config.data.labelled
    return next(iter(config.data.sources)) if labelled is None else f"mix.{labelled}.catalog"


def _by_origin(origin: str | None) -> DataSet | None:
    return next((its for its in DATA_SETS.values() if origin is not None and its.origin == origin), None)


def _by_words(text: str) -> DataSet | None:
    found = [its for its in DATA_SETS.values() if re.search(its.words, text.lower())]
    return found[0] if len(found) == 1 else None
