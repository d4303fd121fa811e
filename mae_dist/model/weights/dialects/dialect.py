"""What a dialect is: names, what is published of its models, and what of them cannot become ours."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from mae_dist.config.data_sets import IMAGENET_MEAN, IMAGENET_STD
from mae_dist.config.geometry import ARCHITECTURES
from mae_dist.model.weights.naming import Naming
from mae_dist.model.weights.stated import Stated

Tensors = dict[str, Tensor]

IMAGENET = Stated(mean=IMAGENET_MEAN, std=IMAGENET_STD)
"""Of pixels, as most published models were trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """What all published models of one paper share, whoever wrote the file."""

    positions: Literal["sincos_2d", "sincos_1d"]
    """The fixed ones; a stored table that differs makes them learned."""
    init: Literal["mae", "videomae"]
    published: Stated
    heads: Mapping[int, int]
    """Of an encoder by its width."""
    decoder_heads: Mapping[int, int]


def _heads(prefix: str) -> dict[int, int]:
    return {
        named.encoder.width: named.encoder.heads
        for size, named in ARCHITECTURES.items()
        if size.startswith(prefix)
    }


def _decoder_heads(prefix: str) -> dict[int, int]:
    return {
        named.decoder.width: named.decoder.heads
        for size, named in ARCHITECTURES.items()
        if size.startswith(prefix)
    }


MAE = Family(
    positions="sincos_2d",
    init="mae",
    published=replace(IMAGENET, frames=1, height=224, width=224, target="norm_pixel_mae"),
    heads=_heads("mae_") | {384: 6},
    decoder_heads=_decoder_heads("mae_"),
)
"""arXiv 2111.06377; ViT-S as timm has it."""
VIDEOMAE = Family(
    positions="sincos_1d",
    init="videomae",
    published=replace(IMAGENET, frames=16, height=224, width=224, target="norm_pixel_videomae"),
    heads=_heads("videomae_") | {1408: 16},
    decoder_heads=_decoder_heads("videomae_"),
)
"""arXiv 2203.12602, and ViT-g of arXiv 2303.16727."""
MAE_ST = Family(
    positions="sincos_1d",
    init="mae",
    published=Stated(
        frames=16,
        height=224,
        width=224,
        target="norm_pixel_mae",
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
    ),
    heads={768: 12, 1024: 16, 1280: 16},
    decoder_heads={512: 16},
)
"""arXiv 2205.09113, whose positions are all learned."""


def nothing_in_the_way(names: Collection[str]) -> str | None:
    """Nothing of such a file is beyond us."""
    del names
    return None


def nothing_more(tensors: Mapping[str, Tensor]) -> Stated:
    """Shapes of such files say nothing of the input that positions do not."""
    del tensors
    return Stated()


def as_they_are(tensors: Mapping[str, Tensor]) -> Tensors:
    """The tensors, unchanged."""
    return dict(tensors)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """One way of writing a checkpoint of a family."""

    name: str
    family: Family
    naming: Naming
    detect: Callable[[Collection[str], Mapping[str, str]], bool]
    """Whether a file of these names and metadata is one of this dialect."""
    prepare: Callable[[Mapping[str, Tensor]], Tensors] = as_they_are
    """What has to be done to their tensors before names are all that differs."""
    stated: Callable[[Mapping[str, Tensor]], Stated] = nothing_more
    """What their tensors say besides, before they are prepared."""
    obstacle: Callable[[Collection[str]], str | None] = nothing_in_the_way
    """Why a file of these names cannot be converted exactly as a whole."""
    decoder_marks: tuple[str, ...]
    """Names that begin so belong to the decoder, which may be left out."""
