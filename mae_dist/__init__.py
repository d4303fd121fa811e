"""Masked autoencoders on a Ray cluster: from a bucket to an evaluated encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mae_dist.model.pretrained import PretrainedEncoder

__version__ = "0.1.0"


def load(path: str) -> PretrainedEncoder:
    """The encoder of a run, or of weights in any dialect, ready to `encode`; see model/pretrained.py."""
    # Imported here: commands that only read a recipe do without torch.
    from mae_dist.model.pretrained import load_encoder

    return load_encoder(path)
