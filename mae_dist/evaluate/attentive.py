"""Several attentive probes trained side by side on the same batches of tokens.

They share reading and nothing else: attention has weights of each head's own, so no two of them can become
one matrix product as linear heads do. One costs about as much as two blocks of the encoder on a query.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mae_dist.config.probing import AttentiveConfig, HeadsConfig
from mae_dist.evaluate.features import layer_and_pool
from mae_dist.evaluate.heads import rates
from mae_dist.evaluate.windows import Rows
from mae_dist.model.attentive import AttentiveProbe


class AttentiveHeads:
    """One probe per learning rate and weight decay, all from the same initial weights."""

    def __init__(
        self,
        name: str,
        width: int,
        num_classes: int,
        config: HeadsConfig,
        attentive: AttentiveConfig,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self._name, self._config = name, config
        self._probes = [
            AttentiveProbe(
                width,
                num_classes,
                heads=attentive.heads,
                blocks=attentive.blocks,
                generator=torch.Generator().manual_seed(seed),
            ).to(device)
            for _ in rates(config)
        ]
        pairs = zip(self._probes, rates(config), strict=True)
        self._optimizers = [_optimizer(probe, config, decay) for probe, (_, decay) in pairs]

    def settings(self) -> list[dict[str, Any]]:
        """Layer, pool, base learning rate and weight decay of every head, in order."""
        layer, pool = layer_and_pool(self._name)
        return [
            {"layer": layer, "pool": pool, "base_lr": lr, "weight_decay": decay}
            for lr, decay in rates(self._config)
        ]

    def update(self, rows: Rows, factor: float) -> Tensor:
        """One update on a batch, with every learning rate times `factor`; the loss of each head."""
        tokens, losses = rows[self._name].float(), []
        heads = zip(self._probes, self._optimizers, rates(self._config), strict=True)
        for probe, optimizer, (base_lr, _) in heads:
            for group in optimizer.param_groups:
                group["lr"] = base_lr * self._config.batch / 256 * factor
            loss = F.cross_entropy(probe(tokens), rows["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    @torch.no_grad()
    def logits(self, rows: Rows, head: int | None = None) -> Tensor:
        """(B, heads, C) of all heads, or (B, 1, C) of one."""
        probes = self._probes if head is None else [self._probes[head]]
        return torch.stack([probe(rows[self._name].float()) for probe in probes], dim=1)

    def finite(self) -> Tensor:
        """Which heads have finite weights, bool; the others diverged."""
        return torch.stack(
            [torch.stack([p.isfinite().all() for p in x.parameters()]).all() for x in self._probes]
        )


def _optimizer(probe: AttentiveProbe, config: HeadsConfig, decay: float) -> torch.optim.Optimizer:
    matrices = [p for p in probe.parameters() if p.ndim > 1]
    vectors = [p for p in probe.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if config.kind == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas)
