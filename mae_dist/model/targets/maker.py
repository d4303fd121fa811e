"""The target of a micro-batch, of whatever kind and of whichever frames the config asks for.

    clips (bytes) -> the frames that are predicted -> their pixels, coefficients, gradients or codes
                  -> those of the tokens that are predicted

Letters: B samples, T frames, H, W pixels, C channels, N tokens of the grid, K kept, H predicted, P values of
a patch, V of the target of one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mae_dist.config.geometry import Architecture, Grid
from mae_dist.config.targets import TargetConfig
from mae_dist.model.patches import gather_tokens, hidden_ids, is_among, patchify
from mae_dist.model.targets import components
from mae_dist.model.targets.gradients import oriented_gradients
from mae_dist.model.targets.losses import code_loss, reconstruction_loss
from mae_dist.model.targets.pixels import TARGETS, normalise
from mae_dist.model.tokenizer import load_codes

MADE: dict[str, Callable[[bytes], nn.Module]] = {
    "pca": components.from_bytes,
    "token": load_codes,
}
"""What reads the file that a target is made with, by kind."""


def frames_of(target: TargetConfig, clips_BTHWC: Tensor) -> Tensor:
    """The frames that are predicted of those that were decoded."""
    if target.frames != "centre":
        return clips_BTHWC
    middle = clips_BTHWC.shape[1] // 2
    return clips_BTHWC[:, middle : middle + 1]


class TargetMaker(nn.Module):
    """Makes targets and compares predictions with them.

    `made` is the file that a target is made with for which something has to be made first; WeightsError is
    raised if it holds something else.
    """

    centre: Tensor | None

    def __init__(
        self, target: TargetConfig, architecture: Architecture, grid: Grid, made: bytes | None = None
    ) -> None:
        super().__init__()
        assert (made is not None) == target.is_made
        self._made = None if made is None else MADE[target.kind](made)
        self._target = target
        self._patch, self._tubelet = architecture.patch, target.num_frames(architecture.tubelet)
        self._per_frame = grid.per_frame
        # Frame T // 2 of the input lies in slot T // 2 // tubelet, which is this one.
        slot = grid.frames // 2
        centre = torch.arange(slot * grid.per_frame, (slot + 1) * grid.per_frame)
        self.register_buffer("centre", centre if target.frames == "centre" else None, persistent=False)

    def seen(self, clips_BTHWC: Tensor) -> Tensor:
        """The frames that the encoder sees of those that were decoded."""
        return clips_BTHWC[:, ::2] if self._target.frames == "double" else clips_BTHWC

    def places(
        self, keep_BK: Tensor, predict_BH: Tensor | None, num_tokens: int
    ) -> tuple[Tensor, Tensor | None]:
        """Ids (B, H) of the tokens to predict, and which of them count for the loss; None: all.

        `predict_BH` are those that the mask asks for, None: all that are hidden.
        """
        if self.centre is not None:
            predict_BH = self.centre.expand(len(keep_BK), -1)
        if predict_BH is None:
            return hidden_ids(keep_BK, num_tokens), None
        return predict_BH, ~is_among(predict_BH, keep_BK, num_tokens)

    def forward(
        self, clips_BTHWC: Tensor, seen_BNP: Tensor, predict_BH: Tensor, mean: Tensor, std: Tensor
    ) -> Tensor:
        """The target (B, H, V) of the tokens `predict_BH`, in float32; of codes one per frame, in int64.

        Of uint8 clips as they were decoded and the patches, also bytes, of the frames seen; `mean` and `std`
        are those of the input normalisation.
        """
        with torch.no_grad(), torch.autocast(clips_BTHWC.device.type, enabled=False):
            frames = frames_of(self._target, clips_BTHWC)
            # Of the one frame in the middle the first token is number 0.
            ids_BH = predict_BH % self._per_frame if self._target.frames == "centre" else predict_BH
            if self._target.kind == "hog":
                found = oriented_gradients(frames, patch=self._patch, tubelet=self._tubelet)
                return gather_tokens(found, ids_BH)
            if self._target.kind == "token":
                assert self._made is not None
                return gather_tokens(self._made(frames, tubelet=self._tubelet), ids_BH)
            patches = seen_BNP
            if self._target.frames != "same":
                patches = patchify(frames, patch=self._patch, tubelet=self._tubelet)
            pixels = gather_tokens(patches, ids_BH).float().div_(255)
            if self._made is not None:
                return self._made(normalise(pixels, mean, std))
            return TARGETS[self._target.kind](pixels, mean, std)

    def loss(self, prediction_BHV: Tensor, target_BHV: Tensor, is_counted_BH: Tensor | None) -> Tensor:
        """The loss that the config names, of codes the cross-entropy, in float32: a scalar."""
        if self._target.kind == "token":
            return code_loss(prediction_BHV, target_BHV, is_counted_BH)
        return reconstruction_loss(prediction_BHV, target_BHV, is_counted_BH, kind=self._target.loss)
