"""Writing a checkpoint beside the loop: copied to host memory at once, written and published by threads.

The loop waits only for the copy, and for an earlier save of this rank that is still being written: its host
memory is used again. It never waits for the other ranks' files, which rank 0 does in its thread.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from mae_dist import storage
from mae_dist.storage.fence import Fence, FencedOffError
from mae_dist.train.checkpoint.layout import (
    MARKER,
    CheckpointError,
    Manifest,
    Progress,
    folder_of,
    manifest_name,
    marker_of,
    prune,
    read_manifest,
    sha256,
)
from mae_dist.train.engine import Engine

log = logging.getLogger(__name__)

PART_BYTES = 64 << 20
"""A rank's state is written in files of about this size, so that only so much is in memory twice."""
PUBLISH_DEADLINE_SECONDS = 600.0
POLL_SECONDS = (0.05, 1.0)
"""Between two looks at another rank's receipt: the first wait, and the longest one."""


class Checkpointer:
    """Saves asynchronously, publishes by marker, keeps the newest `keep` and one of every `keep_every` steps.

    `attempt` names this life of the worker group: letters and digits, the same on all ranks and never used
    before. `facts` go into the manifest. A `fence` that is lost makes publishing impossible.
    """

    def __init__(
        self,
        uri: str,
        *,
        rank: int,
        world: int,
        attempt: str,
        keep: int,
        keep_every: int | None = None,
        facts: Mapping[str, str] | None = None,
        fence: Fence | None = None,
    ) -> None:
        self.uri = uri
        self._rank, self._world, self._attempt = rank, world, attempt
        self._keep, self._keep_every, self._facts, self._fence = keep, keep_every, facts or {}, fence
        self._host: dict[str, Tensor] = {}
        self._written = threading.Event()
        self._written.set()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, engine: Engine, progress: Progress, *, guard: Mapping[str, Any] | None = None) -> None:
        """Copy this rank's state to host memory and write it in the background.

        Waits while an earlier save is still being written; raises CheckpointError if one has failed.
        """
        self._written.wait()
        self.check()
        self._copy(engine.fragments())
        manifest = Manifest(
            progress=progress,
            world=self._world,
            attempt=self._attempt,
            files={},
            facts=self._facts,
            guard=guard or {},
        )
        self._written = threading.Event()
        self._thread = threading.Thread(
            target=self._save, args=(manifest, self._written, self._thread), name="checkpoint", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Raise CheckpointError if a save has failed; costs nothing."""
        if self._error is not None:
            raise CheckpointError(f"saving to {self.uri} failed: {self._error}") from self._error

    def wait(self) -> None:
        """Block until every save is published; raises CheckpointError if one failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def _copy(self, fragments: Mapping[str, Tensor]) -> None:
        """Fill the host memory, which is kept from save to save: new pages cost more than the copy."""
        for name in self._host.keys() - fragments.keys():
            del self._host[name]
        on_device = False
        for name, values in fragments.items():
            held = self._host.get(name)
            if held is None or held.shape != values.shape or held.dtype != values.dtype:
                held = torch.empty(values.shape, dtype=values.dtype, pin_memory=values.is_cuda)
                self._host[name] = held
            held.copy_(values.detach(), non_blocking=True)
            on_device |= values.is_cuda
        if on_device:
            torch.cuda.synchronize()

    def _save(self, manifest: Manifest, written: threading.Event, before: threading.Thread | None) -> None:
        folder = folder_of(self.uri, manifest.progress.step)
        try:
            try:
                self._write(folder)
            finally:
                written.set()
            if before is not None:
                before.join()
            if self._rank == 0:
                self._publish(folder, manifest)
        except BaseException as error:  # handed to the training thread
            self._error = error
            # The later driver may have found our announcement, and then goes on from these very files.
            if not isinstance(error, FencedOffError):
                self._give_up(folder, error)

    def _write(self, folder: str) -> None:
        files = {}
        for number, part in enumerate(_parts(self._host)):
            data = safetensors.torch.save(part)
            name = f"{_rank_name(self._attempt, self._rank)}-{number:03d}.safetensors"
            storage.write_bytes(storage.join(folder, name), data)
            files[name] = sha256(data)
            del data
        self._write_receipt(folder, {"files": files})

    def _write_receipt(self, folder: str, receipt: Mapping[str, Any]) -> None:
        body = json.dumps(receipt, sort_keys=True)
        name = f"{_rank_name(self._attempt, self._rank)}.json"
        # With a digest of its own, because the manifest that vouches for it is made from what it says.
        storage.write_json(storage.join(folder, name), {"body": body, "sha256": sha256(body.encode())})

    def _publish(self, folder: str, manifest: Manifest) -> None:
        files: dict[str, str] = {}
        deadline = time.monotonic() + PUBLISH_DEADLINE_SECONDS
        for rank in range(self._world):
            files |= self._receipt(folder, rank, deadline)
        data = replace(manifest, files=files).to_bytes()
        storage.write_bytes(storage.join(folder, manifest_name(self._attempt)), data)
        winner = self._commit(folder, manifest.progress.step, marker_of(self._attempt, data))
        for name in storage.list_dir(folder):
            if name != MARKER and not name.startswith(f"{winner}-"):
                storage.delete(storage.join(folder, name))
        prune(self.uri, keep=self._keep, keep_every=self._keep_every)

    def _commit(self, folder: str, step: int, marker: bytes) -> str:
        """Make the checkpoint visible; returns the attempt whose checkpoint it now is.

        Raises FencedOffError if another driver has taken over.
        """
        create = storage.create_exclusive if self._fence is None else self._fence.create
        replace = storage.write_bytes if self._fence is None else self._fence.write
        uri = storage.join(folder, MARKER)
        if not create(uri, marker):
            try:
                # An attempt before us was slower than we thought; the same step of the same run is as good.
                return read_manifest(self.uri, step).attempt
            except CheckpointError as error:
                log.warning("replacing a damaged checkpoint: %s", error)
                replace(uri, marker)
        return self._attempt

    def _receipt(self, folder: str, rank: int, deadline: float) -> dict[str, str]:
        """Names and digests of what the rank wrote, its receipt included; waits for it."""
        name = f"{_rank_name(self._attempt, rank)}.json"
        uri = storage.join(folder, name)
        pause, longest = POLL_SECONDS
        while not storage.exists(uri):
            if time.monotonic() > deadline:
                raise CheckpointError(f"{folder}: rank {rank} did not write its part in time")
            if self._fence is not None:
                self._fence.check()  # a later driver that saved this step has cleared our files away
            time.sleep(pause)
            pause = min(2 * pause, longest)
        data = storage.read_checked(uri, _checked_receipt)
        receipt = json.loads(json.loads(data)["body"])
        if "error" in receipt:
            raise CheckpointError(f"{folder}: rank {rank} could not write its part: {receipt['error']}")
        return receipt["files"] | {name: sha256(data)}

    def _give_up(self, folder: str, error: BaseException) -> None:
        """Tell rank 0, which waits for us, and make room: a full disk may be why."""
        with contextlib.suppress(storage.StorageError):
            for name in storage.list_dir(folder):
                if name.startswith(_rank_name(self._attempt, self._rank)):
                    storage.delete(storage.join(folder, name))
            if self._rank != 0:
                self._write_receipt(folder, {"error": str(error)})


def _rank_name(attempt: str, rank: int) -> str:
    return f"{attempt}-rank-{rank:05d}"


def _parts(fragments: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The fragments in groups of at most PART_BYTES; a larger fragment is a group of its own."""
    part: dict[str, Tensor] = {}
    size_bytes = 0
    for name, values in fragments.items():
        if part and size_bytes + values.nbytes > PART_BYTES:
            yield part
            part, size_bytes = {}, 0
        part[name] = values
        size_bytes += values.nbytes
    yield part


def _checked_receipt(data: bytes) -> bytes:
    try:
        receipt = json.loads(data)
        is_whole = sha256(receipt["body"].encode()) == receipt["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError):
        is_whole = False
    if not is_whole:
        raise storage.StorageDamagedError("the receipt of a rank is damaged")
    return data
