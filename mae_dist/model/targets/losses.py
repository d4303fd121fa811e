"""How far a prediction is from its target, over the tokens that count.

Letters: B samples, H predicted tokens, V values of one, F frames of a patch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}
"""Those of VideoMAE's ablation, arXiv 2203.12602, table 1f."""


def reconstruction_loss(
    prediction_BHV: Tensor, target_BHV: Tensor, is_counted_BH: Tensor | None = None, *, kind: str = "mse"
) -> Tensor:
    """Mean loss over all values of all tokens, or of those that count, in float32: a scalar."""
    loss, prediction_BHV, target_BHV = LOSSES[kind], prediction_BHV.float(), target_BHV.float()
    if is_counted_BH is None:
        return loss(prediction_BHV, target_BHV)
    return _mean(loss(prediction_BHV, target_BHV, reduction="none").mean(-1), is_counted_BH)


def code_loss(prediction_BHV: Tensor, codes_BHF: Tensor, is_counted_BH: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of codes (int64, one per frame of a patch), in float32: a scalar.

    A prediction holds the logits of one frame after the other, V = F * vocabulary.
    """
    logits = prediction_BHV.float().unflatten(-1, (codes_BHF.shape[-1], -1))
    if is_counted_BH is None:
        return F.cross_entropy(logits.flatten(0, 2), codes_BHF.flatten())
    losses = F.cross_entropy(logits.flatten(0, 2), codes_BHF.flatten(), reduction="none")
    return _mean(losses.view_as(codes_BHF).mean(-1), is_counted_BH)


def _mean(losses_BH: Tensor, is_counted_BH: Tensor) -> Tensor:
    return (losses_BH * is_counted_BH).sum() / is_counted_BH.sum().clamp(min=1)
