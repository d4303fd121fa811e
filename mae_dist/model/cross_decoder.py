"""The decoder of CrossMAE (arXiv 2401.14391): hidden tokens look at the encoder's, and not at each other.

    tokens before and after every block of the encoder -> a learned mixture for each block of the decoder
    mask tokens at their positions -> [attention to the mixture, MLP] x depth -> norm -> prediction

A prediction does not depend on what else is predicted, so that any part of the hidden tokens will do.

Letters: B samples, M tokens of the encoder, E their width, H hidden tokens, D width of the decoder, V values
predicted for one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mae_dist.config.geometry import Architecture, Stack
from mae_dist.model.encoder import predicted_values
from mae_dist.model.transformer import NORM_EPSILON, Mlp, attend


class CrossAttention(nn.Module):
    """Multi-head attention of (B, H, D) to (B, M, E), giving (B, H, D)."""

    def __init__(self, stack: Stack, *, memory_width: int) -> None:
        super().__init__()
        self.heads = stack.heads
        self.query = nn.Linear(stack.width, stack.width)
        self.key_value = nn.Linear(memory_width, 2 * stack.width)
        self.output = nn.Linear(stack.width, stack.width)

    def forward(self, tokens_BHD: Tensor, memory_BME: Tensor) -> Tensor:
        """What each token finds among the memory's."""
        query = self.query(tokens_BHD).unflatten(-1, (self.heads, -1))
        key, value = self.key_value(memory_BME).unflatten(-1, (2, self.heads, -1)).unbind(2)
        attended = attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        return self.output(attended.transpose(1, 2).flatten(2))


class CrossBlock(nn.Module):
    """Attention to the encoder's tokens, then MLP, each normalised before and added to the stream."""

    def __init__(self, stack: Stack, *, memory_width: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(stack.width, eps=NORM_EPSILON)
        self.attention = CrossAttention(stack, memory_width=memory_width)
        self.mlp_norm = nn.LayerNorm(stack.width, eps=NORM_EPSILON)
        self.mlp = Mlp(stack)

    def forward(self, tokens_BHD: Tensor, memory_BME: Tensor) -> Tensor:
        """(B, H, D), each token on its own."""
        tokens_BHD = tokens_BHD + self.attention(self.attention_norm(tokens_BHD), memory_BME)
        return tokens_BHD + self.mlp(self.mlp_norm(tokens_BHD))


class CrossDecoder(nn.Module):
    """Blocks of cross-attention, a norm, and a linear map to what is predicted; used in pretraining only."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        stack, memory = architecture.decoder, architecture.encoder
        num_states = memory.depth + 1
        self.mixture = nn.Parameter(torch.empty(stack.depth, num_states))
        self.memory_norms = nn.ModuleList(
            nn.LayerNorm(memory.width, eps=NORM_EPSILON) for _ in range(stack.depth)
        )
        self.blocks = nn.ModuleList(CrossBlock(stack, memory_width=memory.width) for _ in range(stack.depth))
        self.norm = nn.LayerNorm(stack.width, eps=NORM_EPSILON)
        self.prediction = nn.Linear(stack.width, predicted_values(architecture))

    def initialise(self, generator: torch.Generator | None) -> None:
        """Draw the mixture, normal with a deviation of 1 / sqrt(number of states); linear layers not."""
        nn.init.normal_(self.mixture, std=self.mixture.shape[1] ** -0.5, generator=generator)

    def forward(self, hidden_BHD: Tensor, states: Sequence[Tensor]) -> Tensor:
        """Predict (B, H, V) from mask tokens at their positions and all states (B, M, E) of the encoder."""
        for mixture, norm, block in zip(self.mixture, self.memory_norms, self.blocks, strict=True):
            # One state after the other: stacked they would be as large as all that the encoder keeps.
            memory = sum(share * state for share, state in zip(mixture, states, strict=True))
            hidden_BHD = block(hidden_BHD, norm(memory))
        return self.prediction(self.norm(hidden_BHD))
