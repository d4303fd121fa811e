"""Several catalogs that are trained on as one, each with its share of the stream.

A mix looks like a catalog whose samples are numbered through, those of the first source first. Images may
stand beside videos: an image is a clip of one frame, which stands still for all frames of its views.

    mix.json              the names and weights of the sources, in their order
    source-0.parquet ...  their catalogs
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mae_dist import storage
from mae_dist.data.catalog import Catalog, CatalogError, Row, labels_disagree
from mae_dist.data.order import SampleOrder
from mae_dist.data.turns import MixedOrder, whole_weights

MIX_FILE = "mix.json"


@dataclass(frozen=True)
class Part:
    """One source of a mix."""

    name: str
    catalog: Catalog
    weight: int
    """Its share is weight / sum of all weights."""


@dataclass(frozen=True)
class Mix:
    """What an endless stream needs of a catalog, over several of them."""

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, catalogs: Mapping[str, Catalog], weights: Mapping[str, float]) -> Mix:
        """A mix of named catalogs, in alphabetical order, so that it does not matter who was named first."""
        names = sorted(catalogs)
        whole = whole_weights([weights[name] for name in names])
        return cls(tuple(Part(name, catalogs[name], its) for name, its in zip(names, whole, strict=True)))

    @property
    def total_weight(self) -> int:
        """Of all sources."""
        return sum(self._weights)

    @property
    def num_samples(self) -> int:
        """Of all sources together: the positions of one epoch."""
        return sum(part.catalog.num_samples for part in self.parts)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Name of each label, if that is the same in all sources; else empty: nothing is labelled then."""
        most = max((part.catalog.classes for part in self.parts), key=len)
        agree = all(labels_disagree(most, part.catalog.classes) is None for part in self.parts)
        return most if agree else ()

    @property
    def num_classes(self) -> int:
        """Names in `classes`."""
        return len(self.classes)

    @property
    def most_boxes(self) -> int:
        """Boxes of the sample that has most of them."""
        return max(part.catalog.most_boxes for part in self.parts)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over the digests and weights of all sources."""
        return hashlib.sha256(identity(self._weights, self._digests).encode()).hexdigest()

    def rows(self, samples: np.ndarray) -> list[Row]:
        """The rows of these sample numbers, in their order."""
        sources = np.searchsorted(self._ends, samples, side="right")
        found: dict[int, Row] = {}
        for source, part in enumerate(self.parts):
            [places] = np.nonzero(sources == source)
            if len(places):
                rows = part.catalog.rows(samples[places] - self._starts[source])
                found |= zip(places.tolist(), rows, strict=True)
        rows = [found[place] for place in range(len(samples))]
        return rows if self.classes else [row._replace(label=-1) for row in rows]

    def order(self, seed: int, repeats: int) -> SampleOrder | MixedOrder:
        """The endless stream of these samples."""
        return MixedOrder(
            sizes=tuple(part.catalog.num_samples for part in self.parts),
            chunks=tuple(part.catalog.chunk for part in self.parts),
            weights=self._weights,
            seed=seed,
            repeats=repeats,
        )

    def peers(self, sample: int) -> range:
        """The samples that may stand in for an unreadable one: those of its source, which keeps its share."""
        source = int(np.searchsorted(self._ends, sample, side="right"))
        return range(int(self._starts[source]), int(self._ends[source]))

    def save(self, folder: str) -> None:
        """Write the mix and its catalogs into a folder, mix.json last."""
        for number, part in enumerate(self.parts):
            part.catalog.save(part_file(folder, number))
        about = {
            "parts": [{"name": part.name, "weight": part.weight} for part in self.parts],
            "digest": self.digest,
        }
        storage.write_json(storage.join(folder, MIX_FILE), about)

    @classmethod
    def load(cls, uri: str) -> Mix:
        """Read a mix by its mix.json.

        Raises StorageError if it or a catalog cannot be read, CatalogError if one is not what was saved.
        """
        folder, about = uri.rpartition("/")[0], storage.read_json(uri)
        mix = cls(
            tuple(
                Part(its["name"], Catalog.load(part_file(folder, number)), its["weight"])
                for number, its in enumerate(about["parts"])
            )
        )
        if mix.digest != about["digest"]:
            raise CatalogError(
                f"{uri}: was altered after it was made (digest {mix.digest[:12]}, recorded "
                f"{about['digest'][:12]}); delete it and run again"
            )
        return mix

    @property
    def _weights(self) -> tuple[int, ...]:
        return tuple(part.weight for part in self.parts)

    @property
    def _digests(self) -> list[str]:
        return [part.catalog.digest for part in self.parts]

    @cached_property
    def _ends(self) -> np.ndarray:
        """One past the last sample of each source."""
        return np.cumsum([part.catalog.num_samples for part in self.parts])

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], self._ends[:-1]])


Samples = Catalog | Mix
"""What a stream is made of."""


def load_samples(uri: str) -> Samples:
    """Read a catalog, or a mix by its mix.json; raises as their own `load`."""
    return Mix.load(uri) if uri.rpartition("/")[2] == MIX_FILE else Catalog.load(uri)


def describe(samples: Samples, sources: Sequence[str]) -> str:
    """Where the samples came from, in one line: each source with its digest and, in a mix, its share."""
    if isinstance(samples, Catalog):
        return f"{sources[0]} ({samples.digest[:12]})"
    return "; ".join(
        f"{part.weight / samples.total_weight:.3g} of {source} ({part.catalog.digest[:12]})"
        for source, part in zip(sources, samples.parts, strict=True)
    )


def identity(weights: Sequence[int], sources: Sequence[str]) -> str:
    """What the stream of a mix depends on, in words; `sources` say what each source is."""
    return "mix of " + ", ".join(f"{its} x {source}" for its, source in zip(weights, sources, strict=True))


def part_file(folder: str, number: int) -> str:
    """Where the catalog of one source lies; by its number, so that a source can get another name."""
    return storage.join(folder, f"source-{number}.parquet")
