"""The most memory that a training step holds on one GPU, and at which moment.

    forward    the loss is there: everything is kept for the backward pass
    decoder    the backward pass is in the decoder's last block
    encoder    it has left the decoder, whose gradients are there, and is in the encoder's last block
    backward   it has ended: no activations, all gradients
    update     the optimiser works

Between two of these moments memory changes evenly, block by block, so the peak is at one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from mae_dist.orchestrate.sizing import states
from mae_dist.orchestrate.sizing.activations import Activations
from mae_dist.orchestrate.sizing.states import Spread, Trained

BATCHES = 4
"""Micro-batches of pixels on the device: one at work, two that wait, one that arrives (train/feed.py)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes on one GPU at one moment."""

    moment: str
    weights: int
    optimizer: int
    gradients: int
    buffers: int
    activations: int
    pixels: int

    @property
    def total(self) -> int:
        """The sum of the parts."""
        return self.weights + self.optimizer + self.gradients + self.buffers + self.activations + self.pixels


def peak_memory(
    trained: Trained,
    activations: Activations,
    spread: Spread,
    *,
    micro_batch: int,
    accumulation: int,
    sample_pixel_bytes: int,
    recompute: bool = False,
    batches: int = BATCHES,
) -> Memory:
    """The moment of a step at which most is held.

    `activations` are those of one sample, with `recompute` those of activation checkpointing.
    """
    its, is_accumulating = activations, accumulation > 1
    # Trained parameters that have their gradients, and what is kept of a sample.
    moments = {
        "forward": (0, its.kept + its.until_loss),
        "decoder": (0, its.encoder + its.decoder + its.in_decoder),
        "encoder": (trained.decoder, its.encoder + its.in_encoder),
        "backward": (trained.total, 0),
    }
    held: dict[str, tuple[int, int, int]] = {}
    for moment, (computed, of_sample) in moments.items():
        gradients = states.gradients(trained, spread, computed=computed, is_accumulating=is_accumulating)
        buffers = states.buffers(trained, spread, computed=computed)
        if moment == "forward" or not recompute:
            buffers += states.half_copies(trained, spread, computed=computed)
        held[moment] = (gradients, buffers, micro_batch * of_sample)
    held["update"] = (*states.update(trained, spread), 0)
    found = [
        Memory(
            moment=moment,
            weights=states.weights(trained, spread),
            optimizer=states.optimizer_states(trained, spread),
            gradients=gradients,
            buffers=buffers,
            activations=kept,
            pixels=batches * micro_batch * sample_pixel_bytes,
        )
        for moment, (gradients, buffers, kept) in held.items()
    ]
    return max(found, key=lambda memory: memory.total)
