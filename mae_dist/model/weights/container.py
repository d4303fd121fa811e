"""What lies around the tensors of somebody's checkpoint: a key, wrappers in their names, other things beside.

{"model" | "module" | "state_dict" | "model_state": tensors, "args": ..., "optimizer": ...} or tensors alone
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mae_dist.model.weights.files import open_weights
from mae_dist.model.weights.header import WeightsError
from mae_dist.model.weights.stated import CARD, Stated, of_arguments, of_carried

KEYS = ("model", "module", "state_dict", "model_state")
"""Of MAE and VideoMAE, DeepSpeed and VideoMAE V2, OpenMMLab, pytorchvideo's kin."""
WRAPPERS = ("module.", "_orig_mod.", "model.")
"""In front of every name: DistributedDataParallel, torch.compile, Lightning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """The tensors of a file by their bare names."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    """Of safetensors, and under "container" the key that the tensors lay under."""
    stated: Stated
    """What the file says besides."""


def open_contents(data: bytes) -> Contents:
    """What a file of weights holds, without what is around it; see `open_weights`. Raises WeightsError."""
    found, metadata = open_weights(data)
    key = next((key for key in KEYS if isinstance(found.get(key), Mapping)), None)
    tensors = found if key is None else found[key]
    named = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
    if not named:
        raise WeightsError(
            f"no tensors by name: it holds {', '.join(map(str, list(found)[:8])) or 'nothing'}"
        )
    return Contents(
        tensors=_bare(named),
        metadata=metadata | ({} if key is None else {"container": key}),
        stated=_stated(found, metadata),
    )


def _bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without wrappers, however many there are."""
    names = dict(tensors)
    while True:
        wrapper = next((w for w in WRAPPERS if all(name.startswith(w) for name in names)), None)
        if wrapper is None:
            return names
        names = {name.removeprefix(wrapper): tensor for name, tensor in names.items()}


def _stated(found: Mapping[str, Any], metadata: Mapping[str, str]) -> Stated:
    carried = metadata.get(CARD) or found.get(CARD)
    if isinstance(carried, str):
        return of_carried(carried)
    arguments = found.get("args")
    return of_arguments(arguments) if isinstance(arguments, argparse.Namespace) else Stated()
