"""The architecture and the input of a model, from the shapes of its tensors and what is stated of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from mae_dist.config.geometry import Architecture, Grid, Stack
from mae_dist.model.positions import POSITIONS
from mae_dist.model.weights.dialects.dialect import Family
from mae_dist.model.weights.header import WeightsError
from mae_dist.model.weights.naming import Kind, Naming, is_fixed
from mae_dist.model.weights.native import NO_DECODER
from mae_dist.model.weights.stated import Stated


def shape_of(
    tensors: Mapping[str, Tensor], naming: Naming, kind: Kind, family: Family, stated: Stated
) -> tuple[Architecture, tuple[int, int, int]]:
    """The architecture, and frames, height and width of the input in pixels.

    `stated` is preferred to what is published of the family. Raises WeightsError for tensors that no model of
    ours has, or of which too little is known.
    """
    kernel = tensors.get(f"{naming.kernel}.weight")
    if kernel is None:
        raise WeightsError(f"no tensor '{naming.kernel}.weight', which embeds patches")
    channels, patch = kernel.shape[1], kernel.shape[-1]
    if channels != 3 or kernel.shape[-2] != patch:
        raise WeightsError(
            f"patches of {channels} channels and {kernel.shape[-2]} x {patch} pixels; known: square ones of 3"
        )
    tubelet = kernel.shape[2] if naming.has_time else 1
    encoder = _stack(tensors, naming, "encoder.blocks", stated.encoder_heads, family.heads)
    decoder = NO_DECODER
    if kind == "masked_autoencoder":
        decoder = _stack(tensors, naming, "decoder.blocks", stated.decoder_heads, family.decoder_heads)
    has_class_token = naming.tensors.get("encoder.class_token") in tensors
    table = tensors.get(naming.positions.get("encoder", ""))
    num_places = None if table is None else table.shape[1] - has_class_token
    frames, height, width = _input(stated, family.published, num_places, patch=patch, tubelet=tubelet)
    grid = Grid(frames=frames // tubelet, rows=height // patch, columns=width // patch)
    is_learned = table is not None and kind != "masked_autoencoder" and not _is_fixed(table, family, grid)
    architecture = Architecture(
        patch=patch,
        tubelet=tubelet,
        encoder=encoder,
        decoder=decoder,
        positions="learned" if is_learned else family.positions,
        class_token=has_class_token,
        key_bias=naming.key_bias,
        bridge_bias=f"{naming.modules.get('bridge')}.bias" in tensors,
        init=family.init,
    )
    return architecture, (frames, height, width)


def _is_fixed(table: Tensor, family: Family, grid: Grid) -> bool:
    if grid.frames > 1 and family.positions == "sincos_2d":
        return False
    return is_fixed(table, POSITIONS[family.positions](grid, table.shape[-1]))


def _stack(
    tensors: Mapping[str, Tensor], naming: Naming, name: str, heads: int | None, known: Mapping[int, int]
) -> Stack:
    """The shape of one stack of blocks; its heads, which shapes do not tell, are given or known by width."""
    prefix = naming.stacks[name] + "."
    numbers = {key.removeprefix(prefix).split(".")[0] for key in tensors if key.startswith(prefix)}
    expand = tensors.get(f"{prefix}0.{naming.layers['mlp.expand']}.weight")
    if expand is None:
        raise WeightsError(f"no tensor '{prefix}0.{naming.layers['mlp.expand']}.weight', which a block has")
    hidden, width = expand.shape
    heads = heads or known.get(width)
    part = name.split(".")[0]
    if heads is None:
        raise WeightsError(
            f"the number of heads of a {part} of width {width} is not seen in its tensors, and no published "
            "model has that width; state it (--heads ENCODER,DECODER)"
        )
    if width % heads:
        raise WeightsError(f"{heads} heads do not divide the width {width} of the {part}")
    return Stack(width=width, depth=len(numbers), heads=heads, mlp_ratio=_ratio(hidden, width))


def _ratio(hidden: int, width: int) -> float:
    """What int(width * ratio) gives `hidden` for, also where the division was rounded down."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def _input(
    stated: Stated, published: Stated, num_places: int | None, *, patch: int, tubelet: int
) -> tuple[int, int, int]:
    """Frames, height and width: as stated where that fits stored positions, else a square that does."""
    every = stated.otherwise(published)
    frames, height, width = every.frames, every.height, every.width
    assert frames is not None and height is not None and width is not None  # noqa: PT018
    if frames % tubelet or height % patch or width % patch:
        raise WeightsError(
            f"an input of {frames} x {height} x {width} pixels, which patches of {tubelet} x {patch} x "
            f"{patch} do not divide; state another (--input FRAMESxHEIGHTxWIDTH)"
        )
    tubelets = frames // tubelet
    if num_places is None or num_places == tubelets * (height // patch) * (width // patch):
        return frames, height, width
    if stated.height is not None:
        raise WeightsError(
            f"positions of {num_places} places are not those of an input of {frames} x {height} x {width} "
            "pixels"
        )
    side = math.isqrt(num_places // tubelets)
    if tubelets * side * side != num_places:
        raise WeightsError(
            f"positions of {num_places} places, which are no {tubelets} squares; state the input "
            "(--input FRAMESxHEIGHTxWIDTH)"
        )
    return frames, side * patch, side * patch
