"""Training state on storage: written by all ranks beside the loop, visible only when whole.

    checkpoints/step-000012000/
        a1b2c3d4-rank-00000-000.safetensors   fragments of rank 0 (see engine.py), in parts of bounded size
        a1b2c3d4-rank-00000.json              receipt: digests of this rank's parts
        a1b2c3d4-manifest.json                progress, what the run was, digest of every file
        COMPLETE                              the attempt, and its manifest's digest; no marker, no checkpoint

Every name begins with the attempt that wrote the file, so that what an interrupted one left is never
mistaken for a part of another. The marker is created only if there is none, and through the driver's fence
(storage/fence.py): of several attempts one is committed, by the latest driver alone, and no pointer to the
latest is ever kept. Nothing is unpickled on the way back.
"""

from mae_dist.train.checkpoint.layout import (
    CheckpointError,
    Manifest,
    Progress,
    complete_steps,
    newest,
    read_manifest,
    remove,
)
from mae_dist.train.checkpoint.loading import load, read_weights
from mae_dist.train.checkpoint.saving import Checkpointer

__all__ = [
    "CheckpointError",
    "Checkpointer",
    "Manifest",
    "Progress",
    "complete_steps",
    "load",
    "newest",
    "read_manifest",
    "read_weights",
    "remove",
]
