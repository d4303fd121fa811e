"""The numbers that fix a model: the token grid of an input, and the architecture of each named size.

Plain data without torch, so that a recipe can be checked in milliseconds. The published sizes are those of
arXiv 2111.06377 (MAE) and arXiv 2203.12602 (VideoMAE) with the authors' pretraining scripts; the small ones
are ours, for laptops and tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """How many tokens an input has along time, height and width; token order is time, row, column."""

    frames: int
    rows: int
    columns: int

    @property
    def per_frame(self) -> int:
        """Tokens of one temporal slot: rows * columns."""
        return self.rows * self.columns

    @property
    def num_tokens(self) -> int:
        """frames * rows * columns."""
        return self.frames * self.per_frame


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """A stack of pre-norm transformer blocks."""

    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """One masked autoencoder. The two papers differ in exactly the fields below."""

    patch: int
    """Side of a square patch, in pixels."""
    tubelet: int
    """Frames that one patch spans."""
    encoder: Stack
    decoder: Stack
    positions: Literal["sincos_2d", "sincos_1d", "learned"]
    """MAE: 2-D sine-cosine, column half first. VideoMAE: 1-D sine-cosine over the flattened grid. learned:
    of a converted encoder; they lie with its weights and are not trained further."""
    class_token: bool
    key_bias: bool
    """MAE's attention has a key bias, VideoMAE's has not (softmax cannot see the difference)."""
    bridge_bias: bool
    """Whether the linear map from encoder to decoder width has a bias."""
    init: Literal["mae", "videomae"] = "mae"
    """Whose initial weights. mae: Xavier uniform in the patch embedding and the bridge too, mask token
    normal. videomae: those two as torch draws a linear layer, mask token normal cut at one deviation."""
    encoder_mask_token: bool = False
    """Whether mask tokens go through the encoder already, where they cost what patches do (MAE, table 1c)."""
    cross_decoder: bool = False
    """Whether hidden tokens look at the encoder's alone, and not at each other (CrossMAE)."""
    channels: int = 3
    """Values of one pixel."""
    predicted: int | None = None
    """Values that are predicted for each hidden token; null: as many as its patch has."""

    def grid(self, *, frames: int, height: int, width: int) -> Grid:
        """Token grid of (frames, height, width) pixels; ValueError where a patch does not divide them."""
        for name, pixels, unit in [
            ("frames", frames, self.tubelet),
            ("height", height, self.patch),
            ("width", width, self.patch),
        ]:
            if pixels % unit:
                raise ValueError(f"{name} must be a multiple of {unit} (one patch), got {pixels}")
        return Grid(frames=frames // self.tubelet, rows=height // self.patch, columns=width // self.patch)


def _mae(*, patch: int, encoder: Stack, decoder: Stack | None = None) -> Architecture:
    return Architecture(
        patch=patch,
        tubelet=1,
        encoder=encoder,
        decoder=decoder or Stack(width=512, depth=8, heads=16),
        positions="sincos_2d",
        class_token=True,
        key_bias=True,
        bridge_bias=True,
    )


def _videomae(*, patch: int, encoder: Stack, decoder: Stack, tubelet: int = 2) -> Architecture:
    return Architecture(
        patch=patch,
        tubelet=tubelet,
        encoder=encoder,
        decoder=decoder,
        positions="sincos_1d",
        class_token=False,
        key_bias=False,
        bridge_bias=False,
        init="videomae",
    )


SizeName = Literal[
    "mae_nano",
    "mae_micro",
    "mae_base",
    "mae_large",
    "mae_huge",
    "videomae_micro",
    "videomae_small",
    "videomae_base",
    "videomae_large",
    "videomae_huge",
]

ARCHITECTURES: dict[str, Architecture] = {
    "mae_nano": _mae(
        patch=4,
        encoder=Stack(width=128, depth=4, heads=4),
        decoder=Stack(width=64, depth=2, heads=2),
    ),
    "mae_micro": _mae(
        patch=4,
        encoder=Stack(width=192, depth=6, heads=3),
        decoder=Stack(width=96, depth=2, heads=3),
    ),
    "mae_base": _mae(patch=16, encoder=Stack(width=768, depth=12, heads=12)),
    "mae_large": _mae(patch=16, encoder=Stack(width=1024, depth=24, heads=16)),
    "mae_huge": _mae(patch=14, encoder=Stack(width=1280, depth=32, heads=16)),
    "videomae_micro": _videomae(
        patch=8,
        encoder=Stack(width=192, depth=4, heads=3),
        decoder=Stack(width=96, depth=2, heads=3),
    ),
    "videomae_small": _videomae(
        patch=16,
        encoder=Stack(width=384, depth=12, heads=6),
        decoder=Stack(width=192, depth=4, heads=3),
    ),
    "videomae_base": _videomae(
        patch=16,
        encoder=Stack(width=768, depth=12, heads=12),
        decoder=Stack(width=384, depth=4, heads=6),
    ),
    "videomae_large": _videomae(
        patch=16,
        encoder=Stack(width=1024, depth=24, heads=16),
        decoder=Stack(width=512, depth=12, heads=8),
    ),
    "videomae_huge": _videomae(
        patch=16,
        encoder=Stack(width=1280, depth=32, heads=16),
        decoder=Stack(width=640, depth=12, heads=8),
    ),
}


def architecture(
    size: str,
    *,
    decoder_depth: int | None = None,
    decoder_width: int | None = None,
    tubelet: int | None = None,
    encoder_mask_token: bool = False,
    cross_decoder: bool = False,
) -> Architecture:
    """The architecture called `size`, with another decoder (heads stay) or tubelet where one is asked for."""
    named = ARCHITECTURES[size]
    decoder = replace(
        named.decoder,
        depth=named.decoder.depth if decoder_depth is None else decoder_depth,
        width=named.decoder.width if decoder_width is None else decoder_width,
    )
    return replace(
        named,
        tubelet=named.tubelet if tubelet is None else tubelet,
        decoder=decoder,
        encoder_mask_token=encoder_mask_token,
        cross_decoder=cross_decoder,
    )
