"""What one sample's forward pass keeps for the backward pass, in bytes, by formula; plain numbers.

A block keeps for each of its tokens, of width D with an MLP of width M, values of b bytes (2 under bf16 and
fp16 autocast, else 4):

    8 D + 16     inputs of both norms, which stay float32, and their means and deviations
    2 b D        outputs of both norms as the products take them
    4 b D        queries, keys, values; output of attention
    4 S          logarithms of softmax's sums, S heads: attention is the fused kernel's, which keeps no scores
    2 b M        input and output of the GELU

With recomputation (train.activation_checkpointing) it keeps its input alone, 4 D.
"""

from __future__ import annotations

from dataclasses import dataclass

from mae_dist.config.geometry import Architecture, Grid, Stack
from mae_dist.model.encoder import patch_values, predicted_values

FLOAT32 = 4
STATISTICS = 8
"""Mean and deviation of a norm, for each token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Activations:
    """Bytes of one sample in a training step."""

    encoder: int
    """Kept by the encoder for the backward pass."""
    decoder: int
    """Kept by the decoder."""
    loss: int
    """Kept by the loss, which lets go as soon as the backward pass begins."""
    until_loss: int
    """The step's own tensors, which live until the loss is there."""
    in_encoder: int
    """Gradients on their way through one block; with recomputation also what that block keeps meanwhile."""
    in_decoder: int

    @property
    def kept(self) -> int:
        """encoder + decoder + loss."""
        return self.encoder + self.decoder + self.loss


def pretraining_activations(
    architecture: Architecture,
    grid: Grid,
    *,
    num_kept: int,
    num_predicted: int | None = None,
    value_bytes: int = 2,
    recompute: bool = False,
) -> Activations:
    """Of a masked autoencoder that keeps `num_kept` tokens and decodes `num_predicted` of the others.

    `num_predicted` None is all of them. `value_bytes` is 2 for autocast to half precision, 4 for float32.
    """
    encoder, decoder = architecture.encoder, architecture.decoder
    values, predicted = patch_values(architecture), predicted_values(architecture)
    num_hidden = grid.num_tokens - num_kept if num_predicted is None else num_predicted
    num_seen = num_kept + num_hidden * architecture.encoder_mask_token + int(architecture.class_token)
    encoded = _stack(encoder, num_seen, num_seen, value_bytes, recompute)
    encoded += num_kept * values * value_bytes + _norm(encoder.width, num_seen, value_bytes)
    if architecture.cross_decoder:
        decoded = decoder.depth * _cross_block(decoder, encoder, num_hidden, num_seen, value_bytes)
        in_decoder = _passing(decoder, num_hidden, value_bytes, recompute=False)
    else:
        num_tokens = num_hidden + num_kept + int(architecture.class_token)
        decoded = _stack(decoder, num_tokens, num_hidden, value_bytes, recompute)
        in_decoder = _passing(decoder, num_tokens, value_bytes, recompute=recompute)
    is_half = value_bytes < FLOAT32
    # All patches as bytes; hidden ones as float32, and twice as much that the loss computes of them before it
    # sums up; in half precision predictions, and seen patches as float32, which are not kept then.
    until_loss = grid.num_tokens * values + 3 * num_hidden * predicted * FLOAT32
    until_loss += (num_hidden * predicted * value_bytes + num_kept * values * FLOAT32) * is_half
    return Activations(
        encoder=encoded,
        decoder=decoded + _norm(decoder.width, num_hidden, value_bytes),
        # Predictions and targets as float32.
        loss=2 * num_hidden * predicted * FLOAT32,
        until_loss=until_loss,
        in_encoder=_passing(encoder, num_seen, value_bytes, recompute=recompute),
        in_decoder=in_decoder,
    )


def classifier_activations(
    architecture: Architecture,
    grid: Grid,
    *,
    trainable_blocks: float | None = None,
    is_frozen: bool = False,
    value_bytes: int = 2,
    recompute: bool = False,
) -> Activations:
    """Of a classifier on all tokens, the head left out: fine-tuned as a whole, in its last blocks, or frozen.

    `trainable_blocks` is that of an evaluation; an encoder that `is_frozen` is a linear probe's.
    """
    stack, values = architecture.encoder, patch_values(architecture)
    num_tokens = grid.num_tokens + int(architecture.class_token)
    # Pixels as float32, and normalised.
    pixels = 2 * grid.num_tokens * values * FLOAT32
    if is_frozen:
        forward = FLOAT32 * stack.width + value_bytes * (5 * stack.width + 2 * _hidden(stack))
        return _of_encoder(0, until_loss=max(pixels, num_tokens * forward), passing=0)
    if trainable_blocks is None:
        kept = _stack(stack, num_tokens, num_tokens, value_bytes, recompute)
        kept += grid.num_tokens * values * value_bytes
    else:
        whole, is_halved = divmod(int(2 * trainable_blocks), 2)
        kept = whole * _kept_by_block(stack, num_tokens, value_bytes, recompute)
        mlp = _norm(stack.width, num_tokens, value_bytes) + 2 * num_tokens * _hidden(stack) * value_bytes
        kept += is_halved * (FLOAT32 * num_tokens * stack.width if recompute else mlp)
    passing = _passing(stack, num_tokens, value_bytes, recompute=recompute)
    return _of_encoder(kept, until_loss=pixels, passing=passing)


def _of_encoder(kept: int, *, until_loss: int, passing: int) -> Activations:
    return Activations(
        encoder=kept, decoder=0, loss=0, until_loss=until_loss, in_encoder=passing, in_decoder=0
    )


def _stack(stack: Stack, num_tokens: int, num_wanted: int, value_bytes: int, recompute: bool) -> int:
    """All blocks on `num_tokens`, of which the last one updates only `num_wanted`."""
    each = _kept_by_block(stack, num_tokens, value_bytes, recompute)
    if recompute or num_wanted == num_tokens:
        return stack.depth * each
    return (stack.depth - 1) * each + _block(stack, num_tokens, num_wanted, value_bytes)


def _kept_by_block(stack: Stack, num_tokens: int, value_bytes: int, recompute: bool) -> int:
    if recompute:
        return FLOAT32 * num_tokens * stack.width
    return _block(stack, num_tokens, num_tokens, value_bytes)


def _block(stack: Stack, num_tokens: int, num_updated: int, value_bytes: int) -> int:
    width = stack.width
    keys_and_values = _norm(width, num_tokens, value_bytes) + 2 * num_tokens * width * value_bytes
    # Queries of a part of the tokens are made from a copy of that part.
    copied = num_updated * width * value_bytes if num_updated < num_tokens else 0
    attention = num_updated * (2 * width * value_bytes + FLOAT32 * stack.heads)
    mlp = _norm(width, num_updated, value_bytes) + 2 * num_updated * _hidden(stack) * value_bytes
    return keys_and_values + copied + attention + mlp


def _cross_block(stack: Stack, memory: Stack, num_hidden: int, num_memory: int, value_bytes: int) -> int:
    """A block of `cross_decoder.py` with the norm of its mixture, of states that the encoder keeps."""
    width = stack.width
    mixture = _norm(memory.width, num_memory, value_bytes) + 2 * num_memory * width * value_bytes
    attention = _norm(width, num_hidden, value_bytes)
    attention += num_hidden * (2 * width * value_bytes + FLOAT32 * stack.heads)
    mlp = _norm(width, num_hidden, value_bytes) + 2 * num_hidden * _hidden(stack) * value_bytes
    return mixture + attention + mlp


def _norm(width: int, num_tokens: int, value_bytes: int) -> int:
    """Its input, its statistics, and its output as the next product takes it."""
    return num_tokens * (width * (FLOAT32 + value_bytes) + STATISTICS)


def _passing(stack: Stack, num_tokens: int, value_bytes: int, *, recompute: bool) -> int:
    """Gradients on both sides of the MLP's wide layer, and that of the block's output."""
    gradients = num_tokens * (FLOAT32 * stack.width + value_bytes * (stack.width + _hidden(stack)))
    return gradients + (_block(stack, num_tokens, num_tokens, value_bytes) if recompute else 0)


def _hidden(stack: Stack) -> int:
    return int(stack.width * stack.mlp_ratio)
