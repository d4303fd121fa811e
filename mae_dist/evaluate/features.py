"""Features of a frozen encoder on disk: made once, block by block, and read as often as heads are tried.

    <root>/<key>/about.json                    what the key is a digest of
                 block-00000012.safetensors    one block of the stream: its rows that count
                 parts/00000.json              blocks that are there, with their digests
                 COMPLETE                      all blocks with their digests; no marker, no features

A block that no part names does not exist, whatever lies there, so a killed extraction goes on where its last
part ends. Of a block not more than its record is held in memory: about 100 bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from safetensors.torch import load, save
from torch import Tensor

from mae_dist import storage
from mae_dist.config.load import digest

READERS = 8
"""Blocks that are fetched at the same time: an object store answers late, but many at once."""
TOKENS = "tokens"
"""The pool that leaves all patch tokens as they are."""
COLUMNS = ("label", "sample", "view")
"""What a block says of each row beside its features, int64; a sample's views stand side by side."""


class FeaturesError(ValueError):
    """Features that are not whole, or not those that were asked for."""


class Record(NamedTuple):
    """A block that is there."""

    block: int
    rows: int
    """Views that count; without any the block has no file."""
    size: int
    """Bytes of the file."""
    sha256: str


@dataclass(frozen=True, slots=True)
class Features:
    """One folder of features, whole or in the making."""

    uri: str

    @classmethod
    def of(cls, root: str, identity: Mapping[str, Any]) -> Features:
        """The folder below `root` for features of this identity, plain data; made if there is none."""
        features = cls(storage.join(root, digest(identity)))
        about = storage.join(features.uri, "about.json")
        if not storage.exists(about):
            storage.write_json(about, identity)
        return features

    @property
    def is_complete(self) -> bool:
        """Whether every block is there."""
        return storage.exists(self._marker)

    def about(self) -> dict[str, Any]:
        """What the features were made from."""
        return storage.read_json(storage.join(self.uri, "about.json"))

    def write_block(self, block: int, columns: Mapping[str, Tensor]) -> Record:
        """Put one block there; it exists once `note` has its record. Any process may call this."""
        rows = len(columns["label"])
        if not rows:
            return Record(block, 0, 0, "")
        data = save({name: column.contiguous() for name, column in columns.items()})
        storage.write_bytes(self._file(block), data)
        return Record(block, rows, len(data), hashlib.sha256(data).hexdigest())

    def noted(self) -> dict[int, Record]:
        """The blocks that exist, by number."""
        if self.is_complete:
            return {record.block: record for record in self.records()}
        parts = storage.join(self.uri, "parts")
        listed = [storage.read_json(storage.join(parts, name)) for name in storage.list_dir(parts)]
        records = [Record(*record) for part in listed for record in part["blocks"]]
        return {record.block: record for record in records}

    def names(self) -> list[str]:
        """The columns with features."""
        return list(self.about()["features"])

    def faults(self) -> list[dict[str, Any]]:
        """The samples of the blocks that exist that could not be read."""
        if self.is_complete:
            return storage.read_json(self._marker)["faults"]
        parts = storage.join(self.uri, "parts")
        listed = [storage.read_json(storage.join(parts, name)) for name in storage.list_dir(parts)]
        return [fault for part in listed for fault in part["faults"]]

    def note(self, records: Sequence[Record], faults: Sequence[Mapping[str, Any]]) -> None:
        """Say that these blocks are there. For one writer at a time."""
        parts = storage.join(self.uri, "parts")
        number = len(storage.list_dir(parts))
        part = {"blocks": [list(record) for record in records], "faults": list(faults)}
        storage.write_json(storage.join(parts, f"{number:05d}.json"), part)

    def complete(self, *, num_blocks: int, num_rows: int) -> None:
        """Publish the marker; FeaturesError unless all blocks are there and every view is in one of them."""
        found = self.noted()
        missing = [block for block in range(num_blocks) if block not in found]
        rows = sum(record.rows for record in found.values())
        if missing or len(found) != num_blocks or rows != num_rows:
            raise FeaturesError(
                f"{self.uri}: {len(missing)} of {num_blocks} blocks are missing, {rows} of {num_rows} views "
                "are there; delete the folder and run again"
            )
        marker = {"blocks": [list(found[block]) for block in sorted(found)], "faults": self.faults()}
        storage.write_bytes(self._marker, json.dumps(marker).encode())
        storage.delete_tree(storage.join(self.uri, "parts"))

    def records(self) -> list[Record]:
        """All blocks in order; FeaturesError if the features are not whole."""
        try:
            marker = storage.read_json(self._marker)
        except storage.StorageNotFoundError:
            raise FeaturesError(
                f"{self.uri}: has no COMPLETE, its extraction has not ended; run the same job again"
            ) from None
        return [Record(*record) for record in marker["blocks"]]

    def read(self, records: Iterable[Record]) -> Iterator[dict[str, Tensor]]:
        """The columns of these blocks in their order, each checked against its digest; some ahead of time."""
        wanted = [record for record in records if record.rows]
        with ThreadPoolExecutor(READERS) as pool:
            ahead = [pool.submit(self._read_block, record) for record in wanted[:READERS]]
            for number in range(len(wanted)):
                columns = ahead.pop(0).result()
                if number + READERS < len(wanted):
                    ahead.append(pool.submit(self._read_block, wanted[number + READERS]))
                yield columns

    def _read_block(self, record: Record) -> dict[str, Tensor]:
        return load(storage.read_bytes(self._file(record.block), sha256=record.sha256))

    def _file(self, block: int) -> str:
        return storage.join(self.uri, f"block-{block:08d}.safetensors")

    @property
    def _marker(self) -> str:
        return storage.join(self.uri, "COMPLETE")


def set_names(layers: Sequence[int], pools: Sequence[str]) -> list[str]:
    """Names of the columns with features, one per layer (counted from 1) and pool: "12.mean"."""
    return [f"{layer}.{pool}" for layer in layers for pool in pools]


def layer_and_pool(name: str) -> tuple[int, str]:
    """The layer and the pool of a column."""
    layer, _, pool = name.partition(".")
    return int(layer), pool


def joined(blocks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The rows of several blocks as one."""
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
