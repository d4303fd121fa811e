"""From samples to features: what is extracted, by which encoder, and how a killed extraction goes on.

    block of the stream -> frozen encoder -> layers, pooled -> rows that count -> a file of features

Nothing here knows how blocks are spread over the cluster; `cluster.py` does. Letters: B views of a block, N
patch tokens, D width.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mae_dist import storage
from mae_dist.config.geometry import Architecture
from mae_dist.config.load import digest, to_dict
from mae_dist.config.schema import EvaluationConfig, FaultBudget, RunConfig
from mae_dist.data.batch import StreamSpec, num_blocks, stream_of_a_pass
from mae_dist.data.faults import Fault, check_budget
from mae_dist.data.mix import Samples
from mae_dist.evaluate.features import TOKENS, Features, Record, layer_and_pool, set_names
from mae_dist.model.classifier import POOLS
from mae_dist.model.encoder import Encoder
from mae_dist.model.weights import native
from mae_dist.train.tasks import PatchInput

NOTE_SECONDS = 5.0
"""Blocks done since the last note are done again after a kill."""

Answer = tuple[Record, list[dict[str, Any]]]
"""A block that is there, and its samples that could not be read."""
DTYPES = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True, slots=True)
class Extraction:
    """The features of one catalog's samples as plain data, for any process."""

    root: str
    """Folder that holds features by key."""
    weights: str | None
    """Exported masked autoencoder; None is the random initialisation of `stream.seed`."""
    weights_digest: str
    catalog_digest: str
    architecture: Architecture
    stream: StreamSpec
    names: tuple[str, ...]
    """Columns of features, as `set_names` gives them."""
    dtype: str
    """Of the numbers kept."""
    computed: str
    """dtype of the encoder's matrix products: float32, or float16 on GPUs."""

    @property
    def identity(self) -> dict[str, Any]:
        """All that the features depend on, as plain data."""
        stream = to_dict(self.stream)
        # The decoders give the same pixels, the grid follows from the rest, and features have no boxes.
        aside = {"boxes", "decoder", "grid", "mask", "train", "whole"}
        aside |= {"test"} if self.stream.drawn else {"seed", "repeats"}
        return {
            "weights": self.weights_digest,
            "catalog": self.catalog_digest,
            "stream": {name: value for name, value in stream.items() if name not in aside},
            "architecture": to_dict(self.architecture),
            "features": list(self.names),
            "dtype": self.dtype,
            "computed": self.computed,
        }


def extraction_of(
    config: RunConfig,
    protocol: EvaluationConfig,
    samples: Samples,
    *,
    root: str,
    weights: str | None,
    for_test: bool,
    use_gpu: bool,
) -> Extraction:
    """What a protocol needs of these samples."""
    wanted, depth = protocol.features, config.model.architecture.encoder.depth
    pools = (TOKENS,) if protocol.protocol == "attentive_probe" else wanted.pools
    drawn = wanted.drawn_views > 0 and not for_test
    return Extraction(
        root=root,
        weights=weights,
        weights_digest=weights_digest(config, weights),
        catalog_digest=samples.digest,
        architecture=config.architecture,
        stream=replace(
            stream_of_a_pass(config, protocol), repeats=wanted.drawn_views if drawn else 1, drawn=drawn
        ),
        names=tuple(set_names([layer % (depth + 1) for layer in wanted.layers], pools)),
        dtype=wanted.dtype,
        computed="float16" if use_gpu else "float32",
    )


def weights_digest(config: RunConfig, weights: str | None) -> str:
    """sha256 of the file of weights; for random ones, a digest of what they are drawn from."""
    if weights is None:
        return f"random-{digest([to_dict(config.model), config.seed])}"
    return hashlib.sha256(storage.read_bytes(weights)).hexdigest()


class Embedder:
    """The frozen encoder in one process: blocks of the stream in, blocks of features on disk."""

    def __init__(self, extraction: Extraction, *, device: torch.device) -> None:
        self._extraction = extraction
        self._features = Features.of(extraction.root, extraction.identity)
        self._device = device
        stream = extraction.stream
        if extraction.weights is None:
            # The same weights that a training from random ones begins with.
            torch.manual_seed(stream.seed)
            encoder = Encoder(extraction.architecture, stream.grid)
        else:
            encoder, _ = native.load_encoder(storage.read_bytes(extraction.weights), stream.grid)
        self._encoder = encoder.requires_grad_(False).eval().to(device)
        self._pixels = PatchInput(extraction.architecture, stream.input).to(device)

    def __call__(self, block: int, columns: Mapping[str, np.ndarray]) -> Record:
        """Write the features of one block, given the arrays of `build_block`."""
        counted = torch.from_numpy(np.array(columns["counted"]))
        kept = {
            "label": torch.from_numpy(np.array(columns["label"]))[counted],
            "sample": torch.from_numpy(np.array(columns["sample"]))[counted],
            "view": torch.from_numpy(np.array(columns["epoch"]))[counted],
        }
        if counted.any():
            clips = torch.from_numpy(np.array(columns["clips"])[columns["counted"]])
            kept |= {name: values.cpu() for name, values in self.embed(clips).items()}
        return self._features.write_block(block, kept)

    @torch.no_grad()
    def embed(self, clips_BTHWC: Tensor) -> dict[str, Tensor]:
        """Features by name for uint8 clips: (B, D), or (B, N, D) where tokens are kept."""
        names = self._extraction.names
        wanted = {layer_and_pool(name)[0] for name in names}
        patches = self._pixels.cut(clips_BTHWC.to(self._device))
        computed = DTYPES[self._extraction.computed]
        with torch.autocast(self._device.type, computed, enabled=computed != torch.float32):
            found = self._encoder.layers(self._pixels.normalise(patches.float() / 255), wanted)
        return {name: self._pooled(found, name).to(DTYPES[self._extraction.dtype]) for name in names}

    def _pooled(self, found: Mapping[int, Tensor], name: str) -> Tensor:
        layer, pool = layer_and_pool(name)
        tokens, num_extra = found[layer].float(), self._encoder.num_extra_tokens
        return tokens[:, num_extra:] if pool == TOKENS else POOLS[pool](tokens, num_extra)


def extract(
    extraction: Extraction,
    samples: Samples,
    *,
    embedded: Callable[[Collection[int]], Iterable[Answer]],
    budget: FaultBudget,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> Features:
    """Make the features, or what is missing of them, and return them.

    `embedded(skip)` has all blocks but those embedded, somewhere and in any order. `show` is told the number
    of blocks that are there, and of all. Raises FaultBudgetError where too many samples cannot be read.
    """
    features = Features.of(extraction.root, extraction.identity)
    if features.is_complete:
        return features
    total, views = num_blocks(samples, extraction.stream), extraction.stream.views_per_sample
    there, faults = features.noted(), features.faults()
    fresh: list[Record] = []
    fresh_faults: list[dict[str, Any]] = []
    noted = time.monotonic()
    done = len(there)
    show(done, total)
    for record, its_faults in embedded(there.keys()) if done < total else ():
        fresh.append(record)
        fresh_faults += its_faults
        done += 1
        if time.monotonic() - noted > NOTE_SECONDS or done == total:
            features.note(fresh, fresh_faults)
            faults += fresh_faults
            check_budget(
                budget,
                num_faults=len(faults),
                num_seen=min(samples.num_samples, done * extraction.stream.micro_batch // views),
                latest=[Fault(**fault) for fault in faults],
            )
            fresh, fresh_faults, noted = [], [], time.monotonic()
            show(done, total)
    features.complete(num_blocks=total, num_rows=(samples.num_samples - len(faults)) * views)
    return features
