"""Pre-norm transformer blocks, shared by encoder, decoder and classifiers.

Both papers use the same block, but for the bias of the attention keys. Query, key and value come from one
matrix product; which kernel then does the attention depends on device, dtype and number of tokens alone, so
results do not change between runs.

Letters: B samples, N tokens, Q the last ones that are wanted, D width, S heads, d width of one head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mae_dist.config.geometry import Stack

NORM_EPSILON = 1e-6
"""Of every layer norm in both papers; torch's default is 1e-5, Hugging Face's models have 1e-12."""


PLAIN_TOKENS = 256
"""Attention in half precision on a CPU is two plain products up to so many tokens ..."""
PLAIN_BYTES = 1 << 20
"""... on as many samples at a time as have scores of this size: what is larger leaves the cache, and comes as
new pages from the system every time."""


def attend(query_BSQd: Tensor, key_BSNd: Tensor, value_BSNd: Tensor) -> Tensor:
    """Softmax attention, scaled by 1 / sqrt(d): (B, S, Q, d) for queries of that shape.

    The fused kernel everywhere but for half precision on a CPU: there its backward pass leaves the matrix
    unit, and plain products are 1.8 to 4.5 times faster up to 200 tokens. From 400 tokens on they are not,
    and what they keep for the backward pass grows with the square.
    """
    is_half_on_cpu = query_BSQd.device.type == "cpu" and query_BSQd.dtype in (torch.bfloat16, torch.float16)
    if is_half_on_cpu and key_BSNd.shape[-2] <= PLAIN_TOKENS:
        return _attend_plainly(query_BSQd, key_BSNd, value_BSNd)
    return F.scaled_dot_product_attention(query_BSQd, key_BSNd, value_BSNd)


def _attend_plainly(query_BSQd: Tensor, key_BSNd: Tensor, value_BSNd: Tensor) -> Tensor:
    _, heads, num_queries, width = query_BSQd.shape
    sample_bytes = heads * num_queries * key_BSNd.shape[-2] * query_BSQd.element_size()
    num_samples = max(1, PLAIN_BYTES // sample_bytes)
    query_BSQd = query_BSQd * width**-0.5
    attended = [
        ((query @ key.transpose(-2, -1)).softmax(-1) @ value).transpose(1, 2)
        for query, key, value in zip(
            *(values.split(num_samples) for values in (query_BSQd, key_BSNd, value_BSNd)), strict=True
        )
    ]
    # Put together with the heads side by side, as the next layer wants them.
    return torch.cat(attended).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, D) -> (B, N, D); D must be a multiple of the heads.

    Without `key_bias`, queries and values have a bias each and keys have none; softmax cannot see the
    difference, but optimisers, parameter counts and checkpoints can.
    """

    def __init__(self, stack: Stack, *, key_bias: bool) -> None:
        super().__init__()
        width = stack.width
        self.heads = stack.heads
        self.qkv = nn.Linear(width, 3 * width, bias=key_bias)
        self.query_bias = None if key_bias else nn.Parameter(torch.zeros(width))
        self.value_bias = None if key_bias else nn.Parameter(torch.zeros(width))
        self.no_bias: Tensor | None
        self.register_buffer("no_bias", None if key_bias else torch.zeros(width), persistent=False)
        self.output = nn.Linear(width, width)

    def forward(self, tokens_BND: Tensor, num_wanted: int | None = None) -> Tensor:
        """All tokens look at all tokens; with `num_wanted`, only so many of the last ones: (B, Q, D)."""
        bias = self.qkv.bias
        if self.query_bias is not None and self.no_bias is not None and self.value_bias is not None:
            bias = torch.cat([self.query_bias, self.no_bias, self.value_bias])
        # Heads are moved after the split, not before: one copy less where the three gradients meet again.
        if num_wanted is None:
            qkv = F.linear(tokens_BND, self.qkv.weight, bias)
            query, key, value = qkv.unflatten(-1, (3, self.heads, -1)).unbind(2)
        else:
            width = tokens_BND.shape[-1]
            weights = self.qkv.weight.split([width, 2 * width])
            biases = (None, None) if bias is None else bias.split([width, 2 * width])
            query = F.linear(tokens_BND[:, -num_wanted:], weights[0], biases[0]).unflatten(
                -1, (self.heads, -1)
            )
            key_value = F.linear(tokens_BND, weights[1], biases[1])
            key, value = key_value.unflatten(-1, (2, self.heads, -1)).unbind(2)
        attended = attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        return self.output(attended.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        hidden = int(stack.width * stack.mlp_ratio)
        self.expand = nn.Linear(stack.width, hidden)
        self.contract = nn.Linear(hidden, stack.width)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        return self.contract(F.gelu(self.expand(tokens_BND)))


class Block(nn.Module):
    """Attention, then MLP, each normalised before and added to the stream; (B, N, D) -> (B, N, D).

    `drop_path` is the probability with which a training sample skips either of them (arXiv 1603.09382); the
    ones that do not skip are scaled up so that the expectation stays. What is in evaluation mode, be it one
    of the two alone, is never skipped.
    """

    def __init__(self, stack: Stack, *, key_bias: bool) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(stack.width, eps=NORM_EPSILON)
        self.attention = Attention(stack, key_bias=key_bias)
        self.mlp_norm = nn.LayerNorm(stack.width, eps=NORM_EPSILON)
        self.mlp = Mlp(stack)
        self.drop_path = 0.0

    def forward(self, tokens_BND: Tensor, num_wanted: int | None = None) -> Tensor:
        """All tokens, or with `num_wanted` so many of the last ones: (B, Q, D)."""
        change = self.attention(self.attention_norm(tokens_BND), num_wanted)
        if num_wanted is not None:
            tokens_BND = tokens_BND[:, -num_wanted:]
        tokens_BND = tokens_BND + self._skip_some(change, self.attention)
        return tokens_BND + self._skip_some(self.mlp(self.mlp_norm(tokens_BND)), self.mlp)

    def _skip_some(self, change_BND: Tensor, made_by: nn.Module) -> Tensor:
        if not made_by.training or self.drop_path == 0:
            return change_BND
        keep = 1 - self.drop_path
        stays_B11 = change_BND.new_empty(len(change_BND), 1, 1).bernoulli_(keep)
        return change_BND * stays_B11 / keep


class Blocks(nn.Sequential):
    """Blocks one after another, (B, N, D) -> (B, N, D).

    With `recompute`, a block keeps only its input for the backward pass and computes the rest again then:
    the same gradients from less memory (arXiv 1604.06174).
    """

    recompute = False

    def forward(self, tokens_BND: Tensor, num_wanted: int | None = None) -> Tensor:
        """All tokens, or with `num_wanted` so many of the last ones, (B, Q, D).

        The last block then computes nothing for the others but their keys and values.
        """
        for index, block in enumerate(self):
            tokens_BND = self._run(block, tokens_BND, num_wanted if index == len(self) - 1 else None)
        return tokens_BND

    def states(self, tokens_BND: Tensor) -> list[Tensor]:
        """The tokens given, and those after each block."""
        found = [tokens_BND]
        for block in self:
            found.append(self._run(block, found[-1], None))
        return found

    def _run(self, block: nn.Module, tokens_BND: Tensor, num_wanted: int | None) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            # The draws of drop path are repeated with the rest.
            return checkpoint(block, tokens_BND, num_wanted, use_reentrant=False)
        return block(tokens_BND, num_wanted)


def transformer(stack: Stack, *, key_bias: bool) -> Blocks:
    """The blocks of `stack`, first to last; no norm behind them."""
    return Blocks(*(Block(stack, key_bias=key_bias) for _ in range(stack.depth)))


def recompute_activations(module: nn.Module) -> None:
    """Let every stack of blocks in `module` save memory in training; see `Blocks`."""
    for blocks in module.modules():
        if isinstance(blocks, Blocks):
            blocks.recompute = True


def initialise_linears(module: nn.Module, generator: torch.Generator | None) -> None:
    """Xavier uniform weights and zero biases in every linear layer of `module`, as in both papers."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_as_torch(layer: nn.Linear, generator: torch.Generator | None) -> None:
    """What torch draws for a linear layer or a convolution: uniform within 1 / sqrt(fan in), bias too.

    For the layers that the papers leave at the default; drawn again to take the generator.
    """
    bound = layer.in_features**-0.5
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    if layer.bias is not None:
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
