"""A run on 24 drawn digits whose features are extracted in this process, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict

import torch

from mae_dist.config.load import load
from mae_dist.config.schema import RunConfig
from mae_dist.data.batch import build_block, num_blocks
from mae_dist.data.catalog import Catalog
from mae_dist.data.sources import make_source
from mae_dist.evaluate.extraction import Answer, Embedder, Extraction, extraction_of

RECIPE = """\
name: frozen
input: {height: 32, width: 32}
model: {size: mae_nano}
mask: {ratio: 0.75}
data: {catalog: "drawn://glyphs?samples=24&seed=1", test_catalog: "drawn://glyphs?samples=10&seed=2"}
train: {length: 1 steps, global_batch: 4, micro_batch: 4, optim: {base_lr: 1e-3}}
evaluations:
  probe:
    protocol: feature_probe
    eval_batch: 6
    features: {layers: [2, -1], pools: [mean, class_token], validation_share: 0.3, dtype: float32}
    heads: {length: 3 epochs, batch: 8, base_lrs: [0.1, 1.0]}
    augment: {scale: [0.5, 1.0]}
"""


def run_config(folder, *settings: str) -> RunConfig:
    path = folder / "frozen.yaml"
    path.write_text(RECIPE)
    return load(str(path), settings)


def drawn(folder, part: str, config: RunConfig) -> Catalog:
    source = config.data.test_catalog if part == "test" else config.data.catalog
    assert source is not None
    return make_source(source, work_folder=str(folder / part))


def extraction(
    config: RunConfig, samples: Catalog, root: str, *, weights: str | None = None, for_test: bool = False
) -> Extraction:
    protocol = next(iter(config.evaluations.values()))
    return extraction_of(
        config, protocol, samples, root=root, weights=weights, for_test=for_test, use_gpu=False
    )


def embedded_here(given: Extraction, samples: Catalog) -> Callable[[Collection[int]], Iterator[Answer]]:
    """What `cluster.embedded` does, in this process; blocks in reverse, because any order will do."""

    def embed(skip: Collection[int]) -> Iterator[Answer]:
        embedder = Embedder(given, device=torch.device("cpu"))
        for block in reversed(range(num_blocks(samples, given.stream))):
            if block not in skip:
                columns = build_block(block, samples, given.stream)
                yield embedder(block, columns), [asdict(fault) for fault in columns["faults"]]

    return embed
