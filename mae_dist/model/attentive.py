"""The attentive probe: a learned query that gathers what it needs from all tokens of a frozen encoder.

    tokens -> [self-attention blocks] -> query + attention over normed tokens -> + MLP -> linear

As in V-JEPA (arXiv 2404.08471): the context is normed before it is attended to, the query is not. Letters:
B samples, N tokens, D width, S heads, d width of one head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mae_dist.config.geometry import Stack
from mae_dist.model.transformer import NORM_EPSILON, Block, Mlp, attend, transformer

_STD = 0.02


class CrossAttention(nn.Module):
    """A query attends to a context: (B, 1, D) and (B, N, D) -> (B, 1, D)."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.heads = stack.heads
        self.query = nn.Linear(stack.width, stack.width)
        self.key_value = nn.Linear(stack.width, 2 * stack.width)
        self.output = nn.Linear(stack.width, stack.width)

    def forward(self, query_B1D: Tensor, context_BND: Tensor) -> Tensor:
        query = self.query(query_B1D).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        both = self.key_value(context_BND).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        key, value = both
        return self.output(attend(query, key, value).transpose(1, 2).flatten(2))


class AttentiveProbe(nn.Module):
    """A classifier of tokens, (B, N, D) -> (B, num_classes) logits.

    `blocks` self-attention blocks come before the pooler. Weights are normal with standard deviation 0.02,
    cut at 2; the last layers of residual branches are scaled down by sqrt(2 * number of the block). Raises
    ValueError where the heads do not divide the width.
    """

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        heads: int,
        blocks: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"attention heads must divide the width {width}, got {heads}")
        stack = Stack(width=width, depth=blocks, heads=heads)
        self.blocks = transformer(stack, key_bias=True)
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.context_norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.attention = CrossAttention(stack)
        self.mlp_norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.mlp = Mlp(stack)
        self.head = nn.Linear(width, num_classes)
        self._initialise(generator)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        tokens_BND = self.blocks(tokens_BND)
        query = self.query.expand(len(tokens_BND), -1, -1)
        query = query + self.attention(query, self.context_norm(tokens_BND))
        query = query + self.mlp(self.mlp_norm(query))
        return self.head(query[:, 0])

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator | None) -> None:
        nn.init.trunc_normal_(self.query, std=_STD, generator=generator)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=_STD, generator=generator)
                nn.init.zeros_(layer.bias)
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        branches = [(block.attention.output, block.mlp.contract) for block in blocks]
        for number, last in enumerate([*branches, (self.attention.output, self.mlp.contract)], start=1):
            for layer in last:
                layer.weight.div_((2 * number) ** 0.5)
