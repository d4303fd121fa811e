"""Fine-tuning of the last blocks alone: what of an encoder stays as it is (arXiv 2111.06377, figure 9).

Below the first trained part nothing has a gradient, so that autograd keeps no activations there and goes back
no further.
"""

from __future__ import annotations

from torch import nn

from mae_dist.model.encoder import Encoder


def freeze_all_but(encoder: Encoder, num_blocks: float) -> list[nn.Module]:
    """Freeze the encoder up to its last `num_blocks` blocks; returns what must stay in evaluation mode.

    0.5 is the MLP of the last block with its norm, 1 the whole block, 1.5 also the MLP of the one below. The
    norm behind the blocks is trained unless there are none. Raises ValueError for other fractions and for
    more blocks than there are.
    """
    depth, halves = len(encoder.blocks), 2 * num_blocks
    if halves != int(halves) or not 0 <= num_blocks <= depth:
        raise ValueError(f"num_blocks must be 0, 0.5, 1, 1.5, ... up to {depth}, got {num_blocks:g}")
    whole, is_halved = divmod(int(halves), 2)
    frozen: list[nn.Module] = [encoder.patch_embedding, *list(encoder.blocks)[: depth - whole - is_halved]]
    if is_halved:
        block = encoder.blocks[depth - whole - 1]
        frozen += [block.get_submodule(name) for name in ("attention_norm", "attention")]
    if not num_blocks:
        frozen.append(encoder.norm)
    if encoder.class_token is not None:
        encoder.class_token.requires_grad_(False)
    for module in frozen:
        module.requires_grad_(False).eval()
    return frozen
