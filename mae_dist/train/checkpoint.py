"""Training state on storage: written by all ranks beside the loop, visible only when whole.

    checkpoints/step-000012000/
        rank-00000.safetensors   the fragments of rank 0 (see engine.py)
        rank-00000.json          its digest, and the attempt that wrote it
        manifest.json            progress, world size, digest of every file
        COMPLETE                 digest of the manifest; no marker, no checkpoint

Every rank writes its own file in a thread. Rank 0 waits until the files of all ranks of the same attempt are
there, then writes the manifest and last the marker. Nothing is unpickled on the way back.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import safetensors.torch
import torch

from mae_dist import storage
from mae_dist.train.engine import Engine, FullState

log = logging.getLogger(__name__)

PUBLISH_DEADLINE_SECONDS = 600.0
POLL_SECONDS = 0.05


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or is not what its manifest says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far training is; everything else about the position follows from it and the config."""

    step: int = 0
    """Optimiser updates done."""
    samples: int = 0
    """Samples used: step * global_batch."""


class Checkpointer:
    """Saves asynchronously, publishes by marker, keeps the newest `keep`."""

    def __init__(self, uri: str, *, rank: int, world: int, attempt: str, keep: int) -> None:
        self._uri, self._rank, self._world, self._attempt, self._keep = uri, rank, world, attempt, keep
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, engine: Engine, progress: Progress) -> None:
        """Copy this rank's state to host memory and write it in the background.

        Waits for the save before it; raises CheckpointError if that one failed.
        """
        self.wait()
        copied = {
            name: values.detach().to("cpu", copy=True).contiguous()
            for name, values in engine.fragments().items()
        }
        self._thread = threading.Thread(
            target=self._write, args=(copied, progress), name="checkpoint", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Block until the running save is published; raises CheckpointError if it failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise CheckpointError(f"saving to {self._uri} failed: {self._error}") from self._error

    def _write(self, fragments: dict[str, torch.Tensor], progress: Progress) -> None:
        try:
            folder = storage.join(self._uri, f"step-{progress.step:09d}")
            data = safetensors.torch.save(fragments)
            name = f"rank-{self._rank:05d}"
            storage.write_bytes(storage.join(folder, f"{name}.safetensors"), data)
            receipt = {"attempt": self._attempt, "sha256": _sha256(data), "size_bytes": len(data)}
            storage.write_json(storage.join(folder, f"{name}.json"), receipt)
            if self._rank == 0:
                self._publish(folder, progress)
        except BaseException as error:  # handed to the training thread by wait()
            self._error = error

    def _publish(self, folder: str, progress: Progress) -> None:
        files = {}
        deadline = time.monotonic() + PUBLISH_DEADLINE_SECONDS
        for rank in range(self._world):
            name = f"rank-{rank:05d}"
            while (receipt := self._receipt(folder, name)) is None:
                if time.monotonic() > deadline:
                    raise CheckpointError(f"{folder}: rank {rank} did not write its part in time")
                time.sleep(POLL_SECONDS)
            files[f"{name}.safetensors"] = {k: receipt[k] for k in ("sha256", "size_bytes")}
        manifest = {"progress": asdict(progress), "world": self._world, "files": files}
        data = json.dumps(manifest, indent=1, sort_keys=True).encode()
        storage.write_bytes(storage.join(folder, "manifest.json"), data)
        storage.write_bytes(storage.join(folder, "COMPLETE"), _sha256(data).encode())
        for old in complete_steps(self._uri)[self._keep :]:
            remove(self._uri, old)

    def _receipt(self, folder: str, name: str) -> dict[str, Any] | None:
        uri = storage.join(folder, f"{name}.json")
        if not storage.exists(uri):
            return None
        receipt = storage.read_json(uri)
        # An interrupted attempt may have left its receipt here; the file it speaks of is being rewritten.
        return receipt if receipt["attempt"] == self._attempt else None


def complete_steps(uri: str) -> list[int]:
    """Steps of the published checkpoints under `uri`, newest first."""
    steps = [int(name.removeprefix("step-")) for name in storage.list_dir(uri) if name.startswith("step-")]
    steps.sort(reverse=True)
    return [step for step in steps if storage.exists(storage.join(_folder(uri, step), "COMPLETE"))]


def newest_intact(uri: str) -> int | None:
    """The newest step whose marker, manifest and files all agree; damaged ones are logged and passed over."""
    for step in complete_steps(uri):
        try:
            _verified_files(_folder(uri, step))
        except CheckpointError as error:
            log.warning("passing over a damaged checkpoint: %s", error)
        else:
            return step
    return None


def load(uri: str, step: int, engine: Engine) -> Progress:
    """Put the checkpoint of `step` into the engine; raises CheckpointError if it is not intact."""
    folder = _folder(uri, step)
    fragments: dict[str, torch.Tensor] = {}
    for data in _verified_files(folder).values():
        fragments |= safetensors.torch.load(data)
    progress = Progress(**_manifest(folder)["progress"])
    engine.load(FullState(fragments), num_updates=progress.step)
    return progress


def remove(uri: str, step: int) -> None:
    """Delete one checkpoint, its marker first, so that no reader takes a half for a whole."""
    marker = storage.join(_folder(uri, step), "COMPLETE")
    if storage.exists(marker):
        storage.delete(marker)
    storage.delete_tree(_folder(uri, step))


def _folder(uri: str, step: int) -> str:
    return storage.join(uri, f"step-{step:09d}")


def _manifest(folder: str) -> dict[str, Any]:
    data = storage.read_bytes(storage.join(folder, "manifest.json"))
    marker = storage.read_bytes(storage.join(folder, "COMPLETE")).decode()
    if _sha256(data) != marker:
        raise CheckpointError(f"{folder}/manifest.json does not match its marker")
    return json.loads(data)


def _verified_files(folder: str) -> dict[str, bytes]:
    files = {}
    for name, expected in _manifest(folder)["files"].items():
        data = storage.read_bytes(storage.join(folder, name))
        if len(data) != expected["size_bytes"] or _sha256(data) != expected["sha256"]:
            raise CheckpointError(f"{folder}/{name} does not match its digest in the manifest")
        files[name] = data
    return files


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
