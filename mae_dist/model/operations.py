"""How much arithmetic one sample takes, by formula: the cost of a forward pass and of a training step.

A multiply-add counts as one, as in both papers ("GFLOPs" there); it is two operations, as data sheets count.
Counted are the matrix products: patch embedding, query/key/value, attention scores and their weighted sum,
output, MLP, bridge, prediction, a classifier's head. Norms, softmax, GELU, biases and positions are not.
Plain numbers without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mae_dist.config.geometry import Architecture, Grid, Stack

Counting = Literal["published", "needed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MultiplyAdds:
    """Multiply-adds of one forward pass of one sample, by part."""

    embedding: int
    blocks: int
    """The encoder's."""
    decoder: int = 0
    """Bridge, blocks, prediction."""
    head: int = 0
    """A classifier's."""

    @property
    def encoder(self) -> int:
        """embedding + blocks."""
        return self.embedding + self.blocks

    @property
    def total(self) -> int:
        """encoder + decoder + head."""
        return self.encoder + self.decoder + self.head


def forward_multiply_adds(
    architecture: Architecture,
    grid: Grid,
    *,
    num_kept: int | None = None,
    num_predicted: int | None = None,
    num_classes: int = 0,
    counting: Counting = "needed",
) -> MultiplyAdds:
    """Cost of one forward pass of one sample.

    A pretraining keeps `num_kept` tokens and decodes `num_predicted` of the hidden ones, all if that is None.
    With `num_kept` None nothing is masked or decoded, and `num_classes` adds a classifier's head.

    published   what the authors' code does: it embeds hidden patches too, and MAE's predicts kept ones.
    needed      what the same result takes: embedded is what is kept, predicted what is hidden, and the last
                block of the decoder updates hidden tokens alone, for which it needs the others' keys and
                values. This is what this code does. Utilisation is measured by it; what another computes
                beyond it is no merit.
    """
    encoder, decoder = architecture.encoder, architecture.decoder
    patch_values = architecture.tubelet * architecture.patch**2 * architecture.channels
    predicted_values = architecture.predicted or patch_values
    is_published, extra = counting == "published", int(architecture.class_token)
    num_seen = grid.num_tokens if num_kept is None else num_kept
    num_embedded = grid.num_tokens if is_published else num_seen
    if architecture.encoder_mask_token and num_kept is not None:
        num_seen = num_kept + (grid.num_tokens - num_kept if num_predicted is None else num_predicted)
    parts = {
        "embedding": num_embedded * patch_values * encoder.width,
        "blocks": _stack(encoder, num_seen + extra),
        "head": num_classes * encoder.width,
    }
    if num_kept is None:
        return MultiplyAdds(**parts)
    num_hidden = grid.num_tokens - num_kept if num_predicted is None else num_predicted
    if architecture.cross_decoder:
        cross = _cross_stack(decoder, encoder, num_hidden, num_kept + extra)
        return MultiplyAdds(**parts, decoder=cross + num_hidden * decoder.width * predicted_values)
    num_tokens = num_kept + extra + num_hidden
    num_wanted = num_hidden if counting == "needed" else num_tokens
    # MAE puts all tokens back in order and predicts every one; VideoMAE predicts hidden tokens only.
    num_projected = num_tokens if is_published and architecture.class_token else num_hidden
    return MultiplyAdds(
        **parts,
        decoder=(num_seen + extra) * encoder.width * decoder.width
        + _stack(decoder, num_tokens, num_wanted)
        + num_projected * decoder.width * predicted_values,
    )


def training_operations(forward: MultiplyAdds, *, is_encoder_frozen: bool = False) -> int:
    """Operations of forward and backward pass of one sample, two per multiply-add.

    Each product has two gradients, of its input and of its weight, so that training costs three forward
    passes; the pixels' gradient is not needed. Of a frozen encoder there is no gradient at all, and its
    features' is not needed either. What a recomputation of activations repeats is not counted.
    """
    if is_encoder_frozen:
        return 2 * (forward.encoder + 2 * forward.head)
    return 2 * (3 * forward.total - forward.embedding)


def partial_training_operations(
    architecture: Architecture, grid: Grid, *, num_classes: int, trainable_blocks: float
) -> int:
    """The same for a classifier of which the last so many blocks are trained, see `partial.freeze_all_but`.

    The lowest of them has a trained norm in front, so that its products need both gradients.
    """
    forward = forward_multiply_adds(architecture, grid, num_classes=num_classes)
    stack, num_tokens = architecture.encoder, grid.num_tokens + int(architecture.class_token)
    whole, is_halved = divmod(int(2 * trainable_blocks), 2)
    mlp = num_tokens * 2 * stack.width * int(stack.width * stack.mlp_ratio)
    trained = forward.head + whole * _block(stack, num_tokens, num_tokens) + is_halved * mlp
    return 2 * (forward.total + 2 * trained)


def _stack(stack: Stack, num_tokens: int, num_wanted: int | None = None) -> int:
    """All blocks on `num_tokens`, of which only `num_wanted` are needed from the last one."""
    wanted = num_tokens if num_wanted is None else num_wanted
    return (stack.depth - 1) * _block(stack, num_tokens, num_tokens) + _block(stack, num_tokens, wanted)


def _cross_stack(stack: Stack, memory: Stack, num_hidden: int, num_memory: int) -> int:
    """Blocks of `cross_decoder.py`; their mixtures are sums, not products of matrices."""
    width, hidden = stack.width, int(stack.width * stack.mlp_ratio)
    keys_and_values = num_memory * memory.width * 2 * width
    attention = num_hidden * num_memory * 2 * width
    each = num_hidden * (2 * width * width + 2 * width * hidden)
    return stack.depth * (keys_and_values + attention + each)


def _block(stack: Stack, num_tokens: int, num_updated: int) -> int:
    width, hidden = stack.width, int(stack.width * stack.mlp_ratio)
    keys_and_values = num_tokens * 2 * width * width
    attention = num_updated * num_tokens * 2 * width
    query_and_output, mlp = num_updated * 2 * width * width, num_updated * 2 * width * hidden
    return keys_and_values + attention + query_and_output + mlp
