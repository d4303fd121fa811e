"""What lies in a folder of checkpoints: names, manifests, markers, and which of them are kept."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mae_dist import storage

log = logging.getLogger(__name__)

MARKER = "COMPLETE"
DAMAGE_NOTE = "DAMAGED.json"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or is not what its manifest says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far training is; everything else about the position follows from it and the config."""

    step: int = 0
    """Steps of the stream that are behind us, those that were skipped included."""
    samples: int = 0
    """Samples used: step * global_batch."""
    rolled_back: int = 0
    """Steps whose updates were undone by going back to an earlier state (see guard.py)."""

    @property
    def updates(self) -> int:
        """Updates that the state has seen or skipped: step - rolled_back."""
        return self.step - self.rolled_back


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a checkpoint consists of and what it belongs to."""

    progress: Progress
    world: int
    attempt: str
    files: Mapping[str, str]
    """sha256 (hex) of every file, by name."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the run was beyond its identity, by name (see drift.py)."""
    guard: Mapping[str, Any] = field(default_factory=dict)
    """State of the guard (see guard.py)."""

    def to_bytes(self) -> bytes:
        """As JSON for people to read."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """The inverse of `to_bytes`."""
        fields = json.loads(data)
        return cls(**fields | {"progress": Progress(**fields["progress"])})


def folder_of(uri: str, step: int) -> str:
    """The folder of one checkpoint."""
    return storage.join(uri, f"step-{step:09d}")


def sha256(data: bytes) -> str:
    """Hex digest of `data`."""
    return hashlib.sha256(data).hexdigest()


def marker_of(attempt: str, manifest: bytes) -> bytes:
    """What COMPLETE says."""
    return f"{attempt} {sha256(manifest)}\n".encode()


def manifest_name(attempt: str) -> str:
    """File name of an attempt's manifest."""
    return f"{attempt}-manifest.json"


def complete_steps(uri: str) -> list[int]:
    """Steps of the published checkpoints under `uri`, newest first."""
    return [step for step in begun_steps(uri) if storage.exists(storage.join(folder_of(uri, step), MARKER))]


def begun_steps(uri: str) -> list[int]:
    """Steps that have a folder, published or not, newest first."""
    names = (re.fullmatch(r"step-(\d+)", name) for name in storage.list_dir(uri))
    return sorted((int(name[1]) for name in names if name), reverse=True)


def newest(uri: str, *, multiple_of: int = 1, at_most: int | None = None) -> int | None:
    """The newest step whose marker and manifest agree; damaged ones are logged and passed over.

    Its files are checked while `load` reads them, once. One that turns out damaged loses its marker there, so
    that the next call finds the one before it.
    """
    for step in complete_steps(uri):
        if step % multiple_of or (at_most is not None and step > at_most):
            continue
        try:
            read_manifest(uri, step)
        except CheckpointError as error:
            log.warning("passing over a damaged checkpoint: %s", error)
        else:
            return step
    return None


def read_manifest(uri: str, step: int) -> Manifest:
    """What the published checkpoint of `step` says of itself; CheckpointError if it is not whole."""
    folder = folder_of(uri, step)
    try:
        marker = storage.read_bytes(storage.join(folder, MARKER)).decode(errors="replace")
        found = re.fullmatch(r"(\w+) ([0-9a-f]{64})\n", marker, re.ASCII)
        if found is None:
            raise CheckpointError(f"{folder}/{MARKER} is damaged")
        attempt, digest = found.groups()
        data = storage.read_bytes(storage.join(folder, manifest_name(attempt)), sha256=digest)
    except storage.StorageNotFoundError as error:
        raise CheckpointError(f"{folder} is not a whole checkpoint: {error}") from error
    except storage.StorageDamagedError as error:
        raise CheckpointError(f"{folder}: the manifest does not match its marker: {error}") from error
    return Manifest.from_bytes(data)


def set_aside(uri: str, step: int, reason: str) -> None:
    """Take the marker from a damaged checkpoint and say why; what is left is deleted by a later save."""
    folder = folder_of(uri, step)
    storage.delete(storage.join(folder, MARKER))
    storage.write_json(storage.join(folder, DAMAGE_NOTE), {"step": step, "reason": reason})


def remove(uri: str, step: int) -> None:
    """Delete one checkpoint, its marker first, so that no reader takes a half for a whole."""
    storage.delete(storage.join(folder_of(uri, step), MARKER))
    storage.delete_tree(folder_of(uri, step))


def kept_steps(steps: Sequence[int], *, keep: int, keep_every: int | None) -> set[int]:
    """Which of these steps stay: the newest `keep`, and the first one of every `keep_every` steps.

    The first period, from step 0 on, has none: its first checkpoint is that of a run that has just begun.
    """
    kept = set(sorted(steps)[-keep:])
    if keep_every is not None:
        firsts = {step // keep_every: step for step in sorted(steps, reverse=True)}
        kept |= {step for period, step in firsts.items() if period > 0}
    return kept


def prune(uri: str, *, keep: int, keep_every: int | None) -> None:
    """Delete the checkpoints that need not stay, and what saves before the newest one left unfinished."""
    complete = complete_steps(uri)
    kept = kept_steps(complete, keep=keep, keep_every=keep_every)
    for step in begun_steps(uri):
        if step not in kept and step < max(complete, default=0):
            remove(uri, step)
