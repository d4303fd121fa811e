"""The encoder: patches in, tokens out. It sees what it is given and never masks anything itself.

    patches (float, normalised by mean and std) -> one matrix product -> + positions -> [class token, ...]
    -> blocks -> norm

Which patches to give is the caller's business: the pretraining gathers the kept ones before they are
converted to float, so hidden pixels cost nothing here.

Letters: B samples, N tokens of the grid, K kept, P values of one patch, D width.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from mae_dist.config.geometry import Architecture, Grid
from mae_dist.model.positions import POSITIONS, interpolated
from mae_dist.model.transformer import NORM_EPSILON, initialise_as_torch, initialise_linears, transformer


def patch_values(architecture: Architecture) -> int:
    """P, the pixel values of one patch: tubelet * patch * patch * channels."""
    return architecture.tubelet * architecture.patch**2 * architecture.channels


def predicted_values(architecture: Architecture) -> int:
    """V, the values that the decoder predicts for one token."""
    return architecture.predicted or patch_values(architecture)


class Encoder(nn.Module):
    """The part of a masked autoencoder that is kept after pretraining.

    `generator` draws the initial weights (None: torch's global one); equal generators give equal weights.
    Positions are a buffer outside the state dict, so weights fit any grid; learned ones are in it. Raises
    ValueError where the architecture has no positions for the grid.
    """

    def __init__(
        self, architecture: Architecture, grid: Grid, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        stack = architecture.encoder
        self.architecture = architecture
        self.grid = grid
        self.width = stack.width
        self.patch_embedding = nn.Linear(patch_values(architecture), stack.width)
        self.class_token = nn.Parameter(torch.empty(1, 1, stack.width)) if architecture.class_token else None
        self.blocks = transformer(stack, key_bias=architecture.key_bias)
        self.norm: nn.Module = nn.LayerNorm(stack.width, eps=NORM_EPSILON)
        positions = POSITIONS[architecture.positions](grid, stack.width)
        self.positions: Tensor
        is_learned = architecture.positions == "learned"
        self.register_buffer("positions", positions, persistent=is_learned)
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator | None) -> None:
        # Both papers embed by a convolution and leave its bias as torch draws it; MAE redraws the weight.
        initialise_as_torch(self.patch_embedding, generator)
        if self.architecture.init == "mae":
            nn.init.xavier_uniform_(self.patch_embedding.weight, generator=generator)
        if self.class_token is not None:
            nn.init.normal_(self.class_token, std=0.02, generator=generator)
        initialise_linears(self.blocks, generator)

    @property
    def num_extra_tokens(self) -> int:
        """Tokens in front of the patch tokens: 1 with a class token, else 0."""
        return 0 if self.class_token is None else 1

    def positions_on(self, grid: Grid) -> Tensor:
        """Positions of patches of another grid, (N, D): computed, or stretched if they were learned.

        Raises ValueError where there are none.
        """
        if grid == self.grid:
            return self.positions
        if self.architecture.positions == "learned":
            return interpolated(self.positions, self.grid, grid)
        return POSITIONS[self.architecture.positions](grid, self.width).to(self.positions)

    def forward(
        self,
        patches_BKP: Tensor,
        keep_BK: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        masks_BHD: Tensor | None = None,
    ) -> Tensor:
        """Encode patches that lie at `keep_BK` (int64), or all N of them if that is None.

        `positions` (N, D) stand in for the encoder's own where the patches are of another grid. `masks_BHD`
        are tokens that are encoded with them, behind them. Returns normed tokens (B, K, D), or (B, 1 + K, D)
        with the class token first.
        """
        tokens = self._embed(patches_BKP, keep_BK, positions)
        if masks_BHD is not None:
            tokens = torch.cat([tokens, masks_BHD], dim=1)
        return self.norm(self.blocks(tokens))

    def states(self, patches_BKP: Tensor, keep_BK: Tensor) -> list[Tensor]:
        """Tokens before the first block and after each: depth + 1 of them, the last one is that of `forward`
        and the others are not normed."""
        *before, last = self.blocks.states(self._embed(patches_BKP, keep_BK, None))
        return [*before, self.norm(last)]

    def layers(self, patches_BNP: Tensor, wanted: Collection[int]) -> dict[int, Tensor]:
        """Tokens of all patches after each of these blocks, by number from 1, normed by the last norm.

        Each is like what `forward` returns, which is the last block's; blocks above the highest one wanted
        are not computed.
        """
        tokens, found = self._embed(patches_BNP, None, None), {}
        for number, block in enumerate(self.blocks, start=1):
            if number > max(wanted):
                break
            tokens = block(tokens)
            if number in wanted:
                found[number] = self.norm(tokens)
        return found

    def _embed(self, patches_BKP: Tensor, keep_BK: Tensor | None, positions: Tensor | None) -> Tensor:
        positions = self.positions if positions is None else positions
        positions = positions if keep_BK is None else positions[keep_BK]
        tokens = self.patch_embedding(patches_BKP) + positions
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return tokens
