"""Which parameters get weight decay, and how the learning rate falls from the head to the patches."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from mae_dist.config.optimisation import OptimConfig
from mae_dist.train.adamw import AdamW


def param_groups(module: nn.Module, optim: OptimConfig, *, depth: int) -> list[dict]:
    """Groups of the trained parameters, in a fixed order.

    Biases and other one-dimensional parameters are not decayed. With layer_decay d, the learning rate of
    layer i is scaled by d ** (depth + 1 - i): 0 is the patch embedding, i the i-th block, depth + 1 the
    head (arXiv 2106.08254).
    """
    groups: dict[tuple[int, bool], dict] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        decayed = parameter.ndim > 1
        layer = layer_of(name, depth=depth) if optim.layer_decay is not None else depth + 1
        group = groups.setdefault(
            (layer, decayed),
            {
                "params": [],
                "weight_decay": optim.weight_decay if decayed else 0.0,
                "lr_scale": (optim.layer_decay or 1.0) ** (depth + 1 - layer),
            },
        )
        group["params"].append(parameter)
        if optim.kind == "lars":
            # Vectors are not adapted: their norms say nothing about a layer (arXiv 1708.03888).
            group["always_adapt"] = decayed
    return [groups[key] for key in sorted(groups)]


def layer_of(name: str, *, depth: int) -> int:
    """Layer number of a parameter: 0 for the embedding, i for block i - 1, depth + 1 for all above."""
    block = re.search(r"encoder\.blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    if re.search(r"encoder\.(patch_embedding|class_token|positions)", name):
        return 0
    return depth + 1


def make_optimizer(module: nn.Module, optim: OptimConfig, *, depth: int) -> torch.optim.Optimizer:
    """The optimiser of a recipe over the module's trained parameters."""
    groups = param_groups(module, optim, depth=depth)
    if optim.kind == "lars":
        # Imported here: timm takes three seconds, and only linear probes need it.
        from timm.optim.lars import Lars

        # Its annotations say int where its own documentation says float.
        lars: Any = Lars
        return lars(groups, lr=0.0, momentum=optim.momentum, weight_decay=optim.weight_decay)
    if optim.kind == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=optim.momentum)
    # Fused: a third of the default's time on CPU, where small models spend a tenth of the step in it.
    return AdamW(groups, lr=0.0, betas=optim.betas, weight_decay=optim.weight_decay, fused=True)
