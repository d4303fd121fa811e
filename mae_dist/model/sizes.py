"""How large each named model is and what a forward pass of it costs: no weights are allocated, no torch."""

from __future__ import annotations

from dataclasses import dataclass

from mae_dist.config.geometry import ARCHITECTURES, Architecture, Grid, Stack
from mae_dist.model.operations import forward_multiply_adds


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """Weights of a masked autoencoder by part."""

    encoder: int
    decoder: int
    """Bridge, mask token, blocks, norm, prediction."""
    fixed_positions: int
    """MAE's two position tables, frozen parameters in the authors' code. VideoMAE's are none: 0."""

    @property
    def trainable(self) -> int:
        """What the optimiser sees: encoder + decoder."""
        return self.encoder + self.decoder

    @property
    def total(self) -> int:
        """As published: trainable + fixed_positions."""
        return self.trainable + self.fixed_positions


def num_parameters(architecture: Architecture, grid: Grid) -> Parameters:
    """Parameters for inputs of `grid`, which only fixed positions depend on."""
    encoder, decoder = architecture.encoder, architecture.decoder
    patch_values = _patch_values(architecture)
    bridge = encoder.width * decoder.width + decoder.width * architecture.bridge_bias
    table_rows = grid.num_tokens + 1 if architecture.class_token else 0
    return Parameters(
        encoder=(patch_values + 1) * encoder.width
        + encoder.width * architecture.class_token
        + _stack_parameters(encoder, architecture.key_bias),
        decoder=bridge
        + decoder.width
        + _stack_parameters(decoder, architecture.key_bias)
        + (decoder.width + 1) * (architecture.predicted or patch_values),
        fixed_positions=table_rows * (encoder.width + decoder.width),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """One row of `mae-dist sizes`: a named size at the input and masking it was published with."""

    name: str
    patch: int
    tubelet: int
    encoder_width: int
    encoder_depth: int
    encoder_heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    input_frames: int
    input_height: int
    input_width: int
    num_tokens: int
    num_kept: int
    parameters: int
    """Parameters.total."""
    encoder_parameters: int
    decoder_parameters: int
    pretrain_multiply_adds: int
    """Published counting, MultiplyAdds.total."""
    pretrain_multiply_adds_executed: int
    finetune_multiply_adds: int
    """Of the encoder on the whole input, nothing masked."""


INPUTS: dict[str, tuple[int, int, int]] = {
    "mae_nano": (1, 32, 32),
    "mae_micro": (1, 32, 32),
    "videomae_micro": (16, 64, 64),
} | {
    name: (16 if name.startswith("videomae") else 1, 224, 224)
    for name in ARCHITECTURES
    if not name.endswith(("nano", "micro"))
}
"""(frames, height, width) in pixels that each size is listed with."""


def table() -> list[Size]:
    """Every named size with the papers' masking: random 75% for MAE, tubes of 90% for VideoMAE."""
    return [_size(name, *INPUTS[name]) for name in ARCHITECTURES]


def _size(name: str, frames: int, height: int, width: int) -> Size:
    architecture = ARCHITECTURES[name]
    grid = architecture.grid(frames=frames, height=height, width=width)
    if architecture.init == "mae":
        num_kept = grid.num_tokens // 4
    else:
        num_kept = grid.frames * (grid.per_frame - 9 * grid.per_frame // 10)
    parameters = num_parameters(architecture, grid)
    published = forward_multiply_adds(architecture, grid, num_kept=num_kept, counting="published")
    executed = forward_multiply_adds(architecture, grid, num_kept=num_kept)
    return Size(
        name=name,
        patch=architecture.patch,
        tubelet=architecture.tubelet,
        encoder_width=architecture.encoder.width,
        encoder_depth=architecture.encoder.depth,
        encoder_heads=architecture.encoder.heads,
        decoder_width=architecture.decoder.width,
        decoder_depth=architecture.decoder.depth,
        decoder_heads=architecture.decoder.heads,
        input_frames=frames,
        input_height=height,
        input_width=width,
        num_tokens=grid.num_tokens,
        num_kept=num_kept,
        parameters=parameters.total,
        encoder_parameters=parameters.encoder,
        decoder_parameters=parameters.decoder,
        pretrain_multiply_adds=published.total,
        pretrain_multiply_adds_executed=executed.total,
        finetune_multiply_adds=forward_multiply_adds(architecture, grid).total,
    )


def _patch_values(architecture: Architecture) -> int:
    return architecture.tubelet * architecture.patch**2 * architecture.channels


def _stack_parameters(stack: Stack, key_bias: bool) -> int:
    width, hidden = stack.width, int(stack.width * stack.mlp_ratio)
    attention = 4 * width * width + (4 if key_bias else 3) * width
    mlp = 2 * width * hidden + hidden + width
    norms = 2 * 2 * width
    return stack.depth * (attention + mlp + norms) + 2 * width
