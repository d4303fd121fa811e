"""Pretrained encoders for use outside of a run: pixels in, features out.

    encoder = mae_dist.load("s3://bucket/runs/videomae_base_k400-0123456789ab")
    features_BD = encoder.encode(clips_BTHWC)

Letters: B samples, T frames, H, W pixels, C channels, N tokens of their grid, K kept ones, P values of a
patch, D width.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mae_dist.model.classifier import POOLS
from mae_dist.model.encoder import Encoder
from mae_dist.model.patches import gather_tokens, patchify
from mae_dist.model.targets import normalise
from mae_dist.model.weights import native
from mae_dist.model.weights.header import WeightsError
from mae_dist.model.weights.location import read_at
from mae_dist.model.weights.native import ModelCard
from mae_dist.model.weights.reading import encoder_alone

Pool = Literal["mean", "class_token", "tokens"]


def load_encoder(path: str) -> PretrainedEncoder:
    """The encoder that a run exported, or of any dialect of `model.weights.dialects`, in evaluation mode.

    `path` is a run directory, a file or a folder with weights, local or in an object store. Nothing of the
    file is executed. Raises StorageError if it cannot be read, WeightsError if it holds no encoder of ours.
    """
    weights, uri = read_at(path)
    try:
        encoder = native.encoder_of(encoder_alone(weights).tensors, weights.card)
    except WeightsError as error:
        raise WeightsError(f"{uri}: {error}") from error
    return PretrainedEncoder(encoder, weights.card).eval()


class PretrainedEncoder(nn.Module):
    """An encoder with what it takes to feed it; `card` says what it was trained on."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder, card: ModelCard) -> None:
        super().__init__()
        self.encoder = encoder
        self.card = card
        self.register_buffer("mean", torch.tensor(card.mean), persistent=False)
        self.register_buffer("std", torch.tensor(card.std), persistent=False)

    def encode(
        self, pixels: Tensor | np.ndarray, *, pool: Pool = "mean", keep_BK: Tensor | None = None
    ) -> Tensor:
        """Features (B, D) of images (B, H, W, C) or clips (B, T, H, W, C), RGB in most cases.

        Pixels are uint8, or floating-point numbers in [0, 1]; they are normalised here. Any number of frames
        and any size will do that patches divide; positions are made for it. pool: the mean of the patch
        tokens, the class token of an encoder that has one, or all tokens (B, N, D), a class token in front.
        Nothing is masked unless `keep_BK` (int64) names the tokens to look at. Raises ValueError for pixels
        or a pool that do not fit.
        """
        clips_BTHWC = self._clips(pixels)
        architecture = self.card.architecture
        frames, height, width = clips_BTHWC.shape[1:4]
        grid = architecture.grid(frames=frames, height=height, width=width)
        patches_BNP = patchify(clips_BTHWC, patch=architecture.patch, tubelet=architecture.tubelet)
        positions = None if grid == self.encoder.grid else self.encoder.positions_on(grid)
        if keep_BK is not None:
            patches_BNP = gather_tokens(patches_BNP, keep_BK)
        tokens_BND = self.encoder(normalise(patches_BNP, self.mean, self.std), keep_BK, positions=positions)
        if pool == "tokens":
            return tokens_BND
        if pool == "class_token" and not self.encoder.num_extra_tokens:
            raise ValueError("pool: this encoder has no class token; mean or tokens would do")
        return POOLS[pool](tokens_BND, self.encoder.num_extra_tokens)

    def _clips(self, pixels: Tensor | np.ndarray) -> Tensor:
        given = torch.as_tensor(pixels).to(self.mean.device)
        channels = self.card.architecture.channels
        if given.ndim not in (4, 5) or given.shape[-1] != channels:
            raise ValueError(
                f"pixels: expected images (B, H, W, {channels}) or clips (B, T, H, W, {channels}), got "
                f"{tuple(given.shape)}"
            )
        if given.dtype == torch.uint8:
            given = given.to(self.mean.dtype) / 255
        elif not given.is_floating_point():
            raise ValueError(f"pixels: expected uint8, or floating-point in [0, 1], got {given.dtype}")
        elif given.numel() and (given.amin() < 0 or given.amax() > 1):
            low, high = given.amin().item(), given.amax().item()
            raise ValueError(f"pixels: expected values in [0, 1], got {low:.3g} to {high:.3g}")
        return (given if given.ndim == 5 else given.unsqueeze(1)).to(self.mean.dtype)
