"""What of a training's state lies on one GPU, as the two engines keep it.

All of it is float32: autocast halves matrix products alone. Of P trained parameters on W ranks, in bytes:

    stage             0          1                  2                  3
    weights           4 P        4 P + 4 P / W      4 P + 4 P / W      4 P / W
    optimizer, AdamW  8 P        8 P / W            8 P / W            8 P / W
    gradients         4 P        4 P                4 P / W            4 P / W
    buffer            4 P (W>1)  2 GB               2 GB               2 GB

Stage 0 is train/engine.py, which puts all gradients end to end to average them. The others are
train/zero.py, so DeepSpeed's (read in version 0.19): stages 1 and 2 update a second copy of a rank's share
of the weights, and a buffer of DeepSpeed's default size takes gradients that are to be exchanged. With its
default reuse distance, stage 3 keeps up to 500 million weights that it has gathered in the forward pass
until the backward pass has used them. In half precision autocast makes another copy of the weights, 2 P,
which stays until the backward pass has used it; with activation checkpointing, until the forward pass ends.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOAT32 = 4
BUCKET = 500_000_000
"""Values in DeepSpeed's buffer for gradients, `reduce_bucket_size`, which train/zero.py leaves as it is."""
REUSED = 500_000_000
"""Half of `stage3_max_reuse_distance`: weights so close to the end of the forward pass are not let go."""
STATES = {"adamw": 2, "lars": 1, "sgd": 1}
"""Values that each optimiser keeps for each trained one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """Parameters of a task."""

    encoder: int
    """Trained ones of the encoder."""
    decoder: int
    """Trained ones of the rest."""
    frozen: int = 0

    @property
    def total(self) -> int:
        """encoder + decoder: what the optimiser sees."""
        return self.encoder + self.decoder


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """How a training's state is kept."""

    stage: int
    """0 for plain torch."""
    world: int
    optimizer: str = "adamw"
    averages: bool = False
    """Whether there is a moving average of the weights."""
    is_half: bool = True
    """Whether products are in bf16 or fp16."""


def weights(trained: Trained, spread: Spread) -> int:
    """Bytes of weights between two steps, with the copy that is updated and the moving average."""
    own = FLOAT32 * trained.total / spread.world
    whole = FLOAT32 * (trained.total + trained.frozen)
    averages = spread.averages * (own if spread.stage else FLOAT32 * trained.total)
    if spread.stage == 3:
        return int(whole / spread.world + averages)
    return int(whole + averages + (own if spread.stage else 0))


def optimizer_states(trained: Trained, spread: Spread) -> int:
    """Bytes of the optimiser's states."""
    parts = spread.world if spread.stage else 1
    return FLOAT32 * STATES[spread.optimizer] * trained.total // parts


def gradients(trained: Trained, spread: Spread, *, computed: int, is_accumulating: bool) -> int:
    """Bytes of gradients when the backward pass has been through `computed` trained parameters.

    `is_accumulating`: micro-batches have gone before in this step, whose sum is there already.
    """
    whole, own = FLOAT32 * trained.total, FLOAT32 * trained.total // spread.world
    if spread.stage <= 1:
        return whole if is_accumulating else FLOAT32 * computed
    if spread.stage == 2:
        # What is this micro-batch's comes out of the buffer when the backward pass ends.
        return own * is_accumulating + own * (computed == trained.total)
    return own


def buffers(trained: Trained, spread: Spread, *, computed: int) -> int:
    """DeepSpeed's bytes besides, when the backward pass has been through `computed` trained parameters."""
    if spread.stage == 0:
        return 0
    if spread.stage < 3:
        return FLOAT32 * BUCKET
    # Gathered weights go as gradients come, which in the end are put in order for their exchange.
    remaining = trained.total - computed
    exchanged = 0 if remaining else min(trained.total, BUCKET)
    return FLOAT32 * (BUCKET + min(remaining, REUSED) + exchanged)


def half_copies(trained: Trained, spread: Spread, *, computed: int) -> int:
    """Bytes of the copies of weights that autocast makes, of those that `computed` does not count yet."""
    return 2 * (trained.total - computed) * spread.is_half


def update(trained: Trained, spread: Spread) -> tuple[int, int]:
    """(gradients, buffers) in bytes during the optimiser's update."""
    whole, own = FLOAT32 * trained.total, FLOAT32 * trained.total // spread.world
    if spread.stage == 0:
        return whole, whole * (spread.world > 1)
    # A rank's gradients are put end to end; stage 3 holds on to its buffer.
    return own, own + FLOAT32 * BUCKET * (spread.stage == 3)
