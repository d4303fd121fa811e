"""Many linear heads trained side by side as batched matrix products.

Every head sees the same batches and starts from the same weights; they differ in the features that they read
(a layer and a pool), in learning rate and in weight decay. Each is what it would be if it were trained alone:
the losses are summed, so no gradient knows of another head. Heads of one layer and pool share its batch
normalisation, which has no parameters.
Letters: F layers and pools, R pairs of learning rate and weight decay, C classes, B rows, D width.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mae_dist.config.probing import HeadsConfig
from mae_dist.evaluate.features import layer_and_pool
from mae_dist.evaluate.windows import Rows

EPSILON = 1e-6
"""Of the batch normalisation, as in MAE's probe."""
STATISTICS_SHARE = 0.1
"""Of a batch in the running statistics that are used for scoring; torch's default, and so the paper's."""
TRUST = 0.001
"""LARS' trust coefficient (arXiv 1708.03888)."""
TINY = 1e-8

Rule = Callable[[Tensor, Tensor, dict[str, Tensor], Tensor, Tensor, HeadsConfig, int], None]
"""(parameter, gradient, state, learning rates, weight decays, config, step from 0); changes parameter and
state. Rates are broadcast against the parameter, so that every head has its own."""


def sgd(
    parameter: Tensor,
    gradient: Tensor,
    state: dict[str, Tensor],
    lr: Tensor,
    decay: Tensor,
    config: HeadsConfig,
    step: int,
) -> None:
    """Momentum with coupled weight decay, as torch.optim.SGD."""
    gradient = gradient + decay * parameter
    momentum = state.setdefault("momentum", torch.zeros_like(parameter))
    momentum.mul_(config.momentum).add_(gradient)
    parameter.sub_(lr * momentum)


def lars(
    parameter: Tensor,
    gradient: Tensor,
    state: dict[str, Tensor],
    lr: Tensor,
    decay: Tensor,
    config: HeadsConfig,
    step: int,
) -> None:
    """SGD whose step for a matrix is relative to its norm, as timm's; biases (F, R, C) are not adapted."""
    if parameter.ndim == 4:
        norm, its = (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) for x in (parameter, gradient))
        trust = TRUST * norm / (its + decay * norm + TINY)
        gradient = (gradient + decay * parameter) * torch.where((norm > 0) & (its > 0), trust, 1.0)
        decay = torch.zeros_like(decay)
    sgd(parameter, gradient, state, lr, decay, config, step)


def adamw(
    parameter: Tensor,
    gradient: Tensor,
    state: dict[str, Tensor],
    lr: Tensor,
    decay: Tensor,
    config: HeadsConfig,
    step: int,
) -> None:
    """As torch.optim.AdamW."""
    first, second = config.betas
    mean = state.setdefault("mean", torch.zeros_like(parameter))
    square = state.setdefault("square", torch.zeros_like(parameter))
    parameter.mul_(1 - lr * decay)
    mean.lerp_(gradient, 1 - first)
    square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    root = (square / (1 - second ** (step + 1))).sqrt_().add_(TINY)
    parameter.sub_(lr / (1 - first ** (step + 1)) * mean / root)


RULES: dict[str, Rule] = {"sgd": sgd, "lars": lars, "adamw": adamw}


def rates(config: HeadsConfig) -> list[tuple[float, float]]:
    """The R pairs of base learning rate and weight decay."""
    return list(itertools.product(config.base_lrs, config.weight_decays))


class LinearHeads:
    """F * R linear classifiers of C classes; head number f * R + r reads the f-th of `names`."""

    def __init__(
        self,
        names: Sequence[str],
        width: int,
        num_classes: int,
        config: HeadsConfig,
        *,
        seed: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._names, self._config, self._classes, self._dtype = tuple(names), config, num_classes, dtype
        self._pairs = rates(config)
        sets, pairs = len(names), len(self._pairs)
        options: Any = {"device": device, "dtype": dtype}
        # One draw for all: heads are compared by their settings, not by their luck.
        start_CD = torch.empty(num_classes, width)
        nn.init.trunc_normal_(start_CD, std=0.01, generator=torch.Generator().manual_seed(seed))
        self.weight_FRCD = start_CD.to(**options).expand(sets, pairs, -1, -1).clone()
        self.bias_FRC = torch.zeros(sets, pairs, num_classes, **options)
        self.mean_F1D = torch.zeros(sets, 1, width, **options)
        self.variance_F1D = torch.ones(sets, 1, width, **options)
        self._state: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        self._lr_R = torch.tensor([lr for lr, _ in self._pairs], **options) * config.batch / 256
        self._decay_R = torch.tensor([decay for _, decay in self._pairs], **options)
        self._step = 0

    def settings(self) -> list[dict[str, Any]]:
        """Layer, pool, base learning rate and weight decay of every head, in order."""
        return [
            {"layer": layer, "pool": pool, "base_lr": lr, "weight_decay": decay}
            for layer, pool in map(layer_and_pool, self._names)
            for lr, decay in self._pairs
        ]

    @torch.no_grad()
    def update(self, rows: Rows, factor: float) -> Tensor:
        """One update on a batch, with every learning rate times `factor`; the loss of each head, (F * R,)."""
        x_FBD = self._features(rows)
        labels_B, num_rows = rows["label"], x_FBD.shape[1]
        mean_F1D = x_FBD.mean(dim=1, keepdim=True)
        variance_F1D = x_FBD.var(dim=1, keepdim=True, correction=0)
        x_FBD = (x_FBD - mean_F1D) * (variance_F1D + EPSILON).rsqrt()
        self.mean_F1D.lerp_(mean_F1D, STATISTICS_SHARE)
        self.variance_F1D.lerp_(variance_F1D * num_rows / max(1, num_rows - 1), STATISTICS_SHARE)

        logs_FBRC = self._logits(x_FBD).log_softmax(dim=-1)
        target = labels_B[None, :, None, None].expand(*logs_FBRC.shape[:3], 1)
        losses_FBR = -logs_FBRC.gather(-1, target)[..., 0]
        # The gradient of cross-entropy: softmax minus one-hot, over the rows.
        slope = logs_FBRC.exp_().scatter_add_(-1, target, torch.full_like(target, -1, dtype=self._dtype))
        slope = slope.flatten(2) / num_rows
        gradient_FRCD = torch.bmm(slope.transpose(1, 2), x_FBD).view_as(self.weight_FRCD)
        lr_R, rule = self._lr_R * factor, RULES[self._config.kind]
        decay_R111, decay_R1 = self._decay_R[:, None, None], torch.zeros_like(self._decay_R)[:, None]
        rule(
            self.weight_FRCD,
            gradient_FRCD,
            self._state[0],
            lr_R[:, None, None],
            decay_R111,
            self._config,
            self._step,
        )
        gradient_FRC = slope.sum(dim=1).view_as(self.bias_FRC)
        rule(self.bias_FRC, gradient_FRC, self._state[1], lr_R[:, None], decay_R1, self._config, self._step)
        self._step += 1
        return losses_FBR.mean(dim=1).flatten()

    @torch.no_grad()
    def logits(self, rows: Rows, head: int | None = None) -> Tensor:
        """(B, F * R, C) of all heads, or (B, 1, C) of one, with the running statistics."""
        x_FBD = self._features(rows)
        x_FBD = (x_FBD - self.mean_F1D) * (self.variance_F1D + EPSILON).rsqrt()
        if head is None:
            return self._logits(x_FBD).transpose(0, 1).flatten(1, 2)
        which, pair = divmod(head, len(self._pairs))
        return (x_FBD[which] @ self.weight_FRCD[which, pair].T + self.bias_FRC[which, pair])[:, None]

    def finite(self) -> Tensor:
        """Which heads have finite weights, bool (F * R,); the others diverged."""
        return self.weight_FRCD.isfinite().all(dim=-1).all(dim=-1).flatten()

    def _features(self, rows: Rows) -> Tensor:
        return torch.stack([rows[name] for name in self._names]).to(self._dtype)

    def _logits(self, x_FBD: Tensor) -> Tensor:
        weight_FPD = self.weight_FRCD.flatten(1, 2)
        logits_FBP = torch.baddbmm(self.bias_FRC.flatten(1)[:, None], x_FBD, weight_FPD.transpose(1, 2))
        return logits_FBP.unflatten(-1, (-1, self._classes))
