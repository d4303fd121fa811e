"""Micro-batches on their way to the device: copied ahead of time, waiting measured, figures collected."""

from __future__ import annotations

import hashlib
import json
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from mae_dist import storage
from mae_dist.train.intake import Intake, block_intake

DEVICE_COLUMNS = ("clips", "keep", "predict", "label", "counted", "boxes", "is_box", "actions")


class StreamError(RuntimeError):
    """What arrived is not what this rank should be given next; training from it would be another run."""


class Feed:
    """Iterates over micro-batches as dictionaries of device tensors plus `block`, `sample` and `epoch`.

    A thread stays `ahead` batches in front of the loop. What the data plane reports beside the batches,
    faults and figures, grows until it is taken. `blocks` are the numbers that have to arrive, in order: a
    plan begins where the newest checkpoint ended, and a worker that was believed dead may publish another.
    """

    def __init__(
        self,
        rows: Iterable[dict[str, Any]],
        *,
        device: torch.device,
        seed: int,
        ahead: int,
        ledger: str | None,
        blocks: Iterable[int] | None = None,
    ) -> None:
        self._blocks = None if blocks is None else iter(blocks)
        self._intake = Intake()
        self._faults: list[dict[str, Any]] = []
        self._device = device
        self._seed = seed
        self._ledger = ledger
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=ahead)
        self._thread = threading.Thread(target=self._fill, args=(rows,), name="feed", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            started = time.perf_counter()
            item = self._queue.get()
            waited = time.perf_counter() - started
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            self._faults.extend(item.pop("faults"))
            self._intake += item.pop("intake") + Intake(waited_seconds=waited)
            # Drop path and dropout then depend on the block alone, not on the worker or on an interruption.
            torch.manual_seed(int(np.random.SeedSequence([self._seed, item["block"]]).generate_state(1)[0]))
            yield item

    def take_faults(self) -> list[dict[str, Any]]:
        """The faults met since the last call."""
        taken, self._faults = self._faults, []
        return taken

    def take_intake(self) -> Intake:
        """Sums over the blocks used since the last call."""
        taken, self._intake = self._intake, Intake()
        return taken

    def _fill(self, rows: Iterable[dict[str, Any]]) -> None:
        try:
            asked = time.perf_counter()
            for row in rows:
                arrived = time.perf_counter()
                stats = row.pop("stats")
                self._check(row["block"])
                if self._ledger is not None:
                    storage.append_bytes(self._ledger, _ledger_line(row))
                batch = self._to_device(row)
                copied = time.perf_counter()
                batch["intake"] = block_intake(
                    stats, waited_seconds=arrived - asked, copy_seconds=copied - arrived
                )
                self._queue.put(batch)
                asked = time.perf_counter()
            self._queue.put(None)
        except BaseException as error:  # raised again in the loop's thread
            self._queue.put(error)

    def _check(self, block: int) -> None:
        expected = block if self._blocks is None else next(self._blocks)
        if block != expected:
            raise StreamError(
                f"micro-batch {block} arrived where {expected} should come next: the plan does not begin "
                "where the checkpoint ends, or the stream has lost or repeated something. Training starts "
                "again from the newest checkpoint, as far as resources.max_failures allows"
            )

    def _to_device(self, row: dict[str, Any]) -> dict[str, Any]:
        batch = {name: values for name, values in row.items() if name not in DEVICE_COLUMNS}
        for name in DEVICE_COLUMNS:
            if name not in row:
                continue
            # Copied, because the object store's memory is read-only, which torch does not know, and is freed.
            batch[name] = _copied(row[name], pinned=self._device.type == "cuda").to(
                self._device, non_blocking=True
            )
        return batch


def _copied(values: np.ndarray, *, pinned: bool) -> torch.Tensor:
    """A tensor of these values in memory of its own, from which a GPU can fetch it by itself if `pinned`."""
    like = torch.from_numpy(np.empty(0, values.dtype))
    tensor = torch.empty(values.shape, dtype=like.dtype, pin_memory=pinned)
    np.copyto(tensor.numpy(), values)
    return tensor


def digest(row: dict[str, Any]) -> str:
    """sha256 over what the model sees of a micro-batch: pixels, kept tokens, labels, boxes."""
    seen = hashlib.sha256()
    for name in ("clips", "keep", "predict", "label", "boxes", "is_box", "actions"):
        if name in row:
            seen.update(np.ascontiguousarray(row[name]).tobytes())
    return seen.hexdigest()


def _ledger_line(row: dict[str, Any]) -> bytes:
    entry = {
        "block": row["block"],
        "samples": row["sample"].tolist(),
        "epochs": row["epoch"].tolist(),
        "sha256": digest(row),
    }
    return json.dumps(entry).encode() + b"\n"
