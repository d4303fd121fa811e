"""The smallest recipe that is a run, and what is said about one that is not."""

from __future__ import annotations

import pytest

from mae_dist.config.load import load
from mae_dist.config.problems import ConfigError

CATALOG = "data.catalog=s3://bucket/catalog.parquet"
SMALL = """\
name: small
input: {height: 32, width: 32}
model: {size: mae_micro}
mask: {ratio: 0.75}
data: {catalog: images}
train:
  length: 2 epochs
  global_batch: 64
  micro_batch: 32
  optim: {base_lr: 1e-3}
"""


def mistakes(recipe: str, *settings: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(recipe, settings)
    return str(caught.value)


def samples(recipe: str) -> list[str]:
    """What a packaged run has to be told and cannot know: where its samples are."""
    if recipe == "pretrain/k400_in1k":
        return [CATALOG.replace("data", f"data.mix.{source}") for source in ("videos", "images")]
    return [CATALOG]
