"""Reading a checkpoint back: every file is read and verified once, by one rank, and handed to the others."""

from __future__ import annotations

from typing import Any

import safetensors
import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor

from mae_dist import storage
from mae_dist.train.checkpoint.layout import CheckpointError, Progress, folder_of, read_manifest, set_aside
from mae_dist.train.engine import Engine, FullState


def load(uri: str, step: int, engine: Engine) -> Progress:
    """Put the checkpoint of `step` into the engine; a collective call.

    Raises CheckpointError on every rank if a file is not what the manifest says. The checkpoint then has lost
    its marker, and `newest` names the one before it.
    """
    folder = folder_of(uri, step)
    manifest = read_manifest(uri, step)
    names = sorted(name for name in manifest.files if name.endswith(".safetensors"))
    world = dist.get_world_size() if dist.is_initialized() else 1
    rank = dist.get_rank() if dist.is_initialized() else 0

    read, damage = _read(folder, {name: manifest.files[name] for name in sorted(manifest.files)[rank::world]})
    damages = [damage for damage in _gathered(damage) if damage is not None]
    if damages:
        if rank == 0:
            set_aside(uri, step, damages[0])
        _gathered(None)  # nobody looks for another checkpoint before this one is set aside
        raise CheckpointError(damages[0])

    fragments: dict[str, Tensor] = {}
    for name in names:
        data = _shared(read.pop(name, None), source=sorted(manifest.files).index(name) % world)
        try:
            fragments |= safetensors.torch.load(data)
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"{folder}/{name} is not a file of tensors: {error}") from error
    engine.load(FullState(fragments), num_updates=manifest.progress.updates)
    return manifest.progress


def read_weights(uri: str, step: int, *, kind: str) -> FullState:
    """The weights (kind "weight") of the checkpoint of `step`, or their averages ("ema"), and its buffers.

    Files are read one after the other, and the state of the optimiser is not kept. Raises CheckpointError if
    the checkpoint is not whole.
    """
    folder, manifest = folder_of(uri, step), read_manifest(uri, step)
    kept: dict[str, Tensor] = {}
    for name, digest in sorted(manifest.files.items()):
        if not name.endswith(".safetensors"):
            continue
        data, damage = _read(folder, {name: digest})
        if damage is not None:
            raise CheckpointError(damage)
        for key, values in safetensors.torch.load(data[name]).items():
            if key.partition("/")[0] in (kind, "buffer"):
                kept[key] = values.clone()  # of its own, without the file around it
    return FullState(kept)


def _read(folder: str, digests: dict[str, str]) -> tuple[dict[str, bytes], str | None]:
    """The files, or what is wrong with the first one that is not what it was."""
    read = {}
    for name, digest in digests.items():
        try:
            read[name] = storage.read_bytes(storage.join(folder, name), sha256=digest)
        except storage.StorageDamagedError:
            return {}, f"{folder}/{name} does not match its digest in the manifest"
        except storage.StorageError as error:
            return {}, str(error)
    return read, None


def _gathered(value: Any) -> list[Any]:
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _shared(data: bytes | None, *, source: int) -> bytes:
    """The bytes that rank `source` has, on every rank."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        assert data is not None
        return data
    device = torch.device("cuda" if "nccl" in dist.get_backend() else "cpu")
    size = torch.tensor([0 if data is None else len(data)], device=device)
    dist.broadcast(size, src=source)
    if data is None:
        values = torch.empty(int(size), dtype=torch.uint8, device=device)
    else:
        values = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(device)
    dist.broadcast(values, src=source)
    return values.cpu().numpy().tobytes() if data is None else data
