"""Classifiers on top of an encoder: fine-tuning of everything, and the linear probe on frozen features.

Both take over the encoder they are given (they change its drop path, norm or gradients), read all patches
and never mask. Letters: B samples, N tokens of the grid, P values of one patch, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from mae_dist.model.encoder import Encoder
from mae_dist.model.partial import freeze_all_but
from mae_dist.model.transformer import NORM_EPSILON, Block

Pool = Callable[[Tensor, int], Tensor]

POOLS: dict[str, Pool] = {
    "mean": lambda tokens_BND, num_extra: tokens_BND[:, num_extra:].mean(1),
    "class_token": lambda tokens_BND, num_extra: tokens_BND[:, 0],
}
"""From encoded tokens and the number of extra ones in front to one vector per sample, (B, D)."""


class Classifier(nn.Module):
    """Fine-tuning form: (B, N, P) normalised patches -> (B, num_classes) logits.

    pool="mean" averages the patch tokens and norms the average with a fresh norm; the encoder's own norm is
    dropped, as in both papers. pool="class_token" keeps it. `drop_path` grows linearly from 0 in the first
    block to its value in the last; `dropout` acts before the head. Head weights are normal with standard
    deviation 0.02 * init_scale, cut at 2; VideoMAE's scripts use a scale of 0.001, MAE's come to the same.
    With `trainable_blocks` all below the last so many blocks is frozen and in evaluation mode whatever mode
    the classifier is put in; None trains everything. Raises ValueError for a class token that the encoder
    does not have, and for a number of blocks that it cannot have.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        *,
        pool: str = "mean",
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init_scale: float = 1.0,
        trainable_blocks: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_pool(encoder, pool)
        self.pool = pool
        self.encoder = encoder
        self.pooled_norm = nn.Identity()
        if pool == "mean":
            encoder.norm = nn.Identity()
            self.pooled_norm = nn.LayerNorm(encoder.width, eps=NORM_EPSILON)
        grow_drop_path(encoder, drop_path)
        self._frozen = [] if trainable_blocks is None else freeze_all_but(encoder, trainable_blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = fresh_head(encoder.width, num_classes, std=0.02, generator=generator)
        with torch.no_grad():
            self.head.weight.mul_(init_scale)

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is trained; never for what is frozen, whose drop path would be noise."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, patches_BNP: Tensor) -> Tensor:
        pooled = POOLS[self.pool](self.encoder(patches_BNP), self.encoder.num_extra_tokens)
        return self.head(self.dropout(self.pooled_norm(pooled)))


class LinearProbe(nn.Module):
    """A linear classifier on frozen features, batch-normalised without affine: (B, N, P) -> (B, num_classes).

    The encoder is without gradients and stays in evaluation mode whatever mode the probe is put in. Features
    come from the encoder's own norm, pooled. Settings are MAE's: epsilon 1e-6, head weights of standard
    deviation 0.01. Raises ValueError for a class token that the encoder does not have.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        *,
        pool: str = "mean",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_pool(encoder, pool)
        self.pool = pool
        self.encoder = encoder.requires_grad_(False).eval()
        self.feature_norm = nn.BatchNorm1d(encoder.width, affine=False, eps=1e-6)
        self.head = fresh_head(encoder.width, num_classes, std=0.01, generator=generator)

    def train(self, mode: bool = True) -> Self:
        """Training mode for batch norm and head; never for the encoder."""
        super().train(mode)
        self.encoder.eval()
        return self

    @torch.no_grad()
    def features(self, patches_BNP: Tensor) -> Tensor:
        """Pooled features (B, D) of the frozen encoder, before batch norm; may be computed once and kept."""
        return POOLS[self.pool](self.encoder(patches_BNP), self.encoder.num_extra_tokens)

    def forward(self, patches_BNP: Tensor) -> Tensor:
        return self.classify(self.features(patches_BNP))

    def classify(self, features_BD: Tensor) -> Tensor:
        """Logits (B, num_classes) from features (B, D)."""
        return self.head(self.feature_norm(features_BD))


def grow_drop_path(encoder: Encoder, drop_path: float) -> None:
    """Let the drop path grow linearly from 0 in the first block to `drop_path` in the last."""
    blocks = [block for block in encoder.blocks if isinstance(block, Block)]
    for index, block in enumerate(blocks):
        block.drop_path = drop_path * index / max(1, len(blocks) - 1)


def fresh_head(width: int, num_classes: int, *, std: float, generator: torch.Generator | None) -> nn.Linear:
    """A linear layer with weights of this standard deviation, cut at 2, and without bias to begin with."""
    head = nn.Linear(width, num_classes)
    nn.init.trunc_normal_(head.weight, std=std, generator=generator)
    nn.init.zeros_(head.bias)
    return head


def _check_pool(encoder: Encoder, pool: str) -> None:
    if pool == "class_token" and encoder.class_token is None:
        raise ValueError(
            "pool='class_token' needs an encoder with a class token; this one has none, use 'mean'"
        )
