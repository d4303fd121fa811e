"""How many tokens each kind of mask keeps, by the rounding of the papers' code; plain numbers.

A kind hides whole units of one sort: tokens, places (the same in every frame), or frames of the token grid.

    random, block        tokens       MAE, arXiv 2111.06377, figure 6; agnostic in arXiv 2205.09113
    grid                 tokens       MAE, figure 6
    tube, multi_block    places       VideoMAE, arXiv 2203.12602; V-JEPA, arXiv 2404.08471
    frame, causal        frames       VideoMAE, table 1b; time-only in arXiv 2205.09113

`kept` rounds the number that is kept down, `hidden` the number that is hidden: at 0.9 of 1568 tokens 156 are
kept, of 196 places 20. MAE's and mae_st's code does the one, VideoMAE's the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, Literal

from mae_dist.config.geometry import Grid

MaskKind = Literal["random", "block", "grid", "tube", "multi_block", "frame", "causal"]
Rounding = Literal["kept", "hidden"]
PredictKind = Literal["all", "hidden", "running_cell", "random", "frame"]

CELL = 4
"""Places of a running cell, 2 x 2 (VideoMAE V2, arXiv 2303.16727)."""
_ROUNDING: dict[MaskKind, Rounding] = {"tube": "hidden", "multi_block": "hidden", "frame": "hidden"}
_PLACES, _FRAMES = {"tube", "multi_block"}, {"frame", "causal"}


def num_units(kind: MaskKind, grid: Grid) -> tuple[int, str]:
    """What a mask chooses among: how many, and what they are called."""
    if kind in _PLACES:
        return grid.per_frame, "places of a frame"
    return (grid.frames, "frames of tokens") if kind in _FRAMES else (grid.num_tokens, "tokens")


def kept_units(kind: MaskKind, grid: Grid, ratio: float, rounding: Rounding | None = None) -> int:
    """How many of them are kept; `rounding` None: as the paper of this kind rounds."""
    number, _ = num_units(kind, grid)
    if kind == "grid":
        return number // cell_side(ratio) ** 2
    if (rounding or _ROUNDING.get(kind, "kept")) == "hidden":
        return number - int(ratio * number)
    return int(number * (1 - ratio))


def num_kept(kind: MaskKind, grid: Grid, ratio: float, rounding: Rounding | None = None) -> int:
    """Tokens that the encoder sees of every sample."""
    number, _ = num_units(kind, grid)
    return kept_units(kind, grid, ratio, rounding) * (grid.num_tokens // number)


def cell_side(ratio: float) -> int:
    """Side of the cells of a grid mask, which keeps one patch of each: 2 at 0.75."""
    return max(1, round(math.sqrt(1 / (1 - ratio))))


def num_predicted(kind: PredictKind, grid: Grid, ratio: float, *, num_kept: int) -> int | None:
    """Tokens that the decoder predicts of every sample, seen ones among them; None: those that are hidden.

    `ratio` is the fraction of all tokens that it leaves out, or of those that are hidden.
    """
    if kind == "all":
        return None
    if kind == "hidden":
        num_hidden = grid.num_tokens - num_kept
        return num_hidden - int(ratio * num_hidden)
    if kind == "frame":
        return (grid.frames - int(ratio * grid.frames)) * grid.per_frame
    if kind == "random":
        return grid.num_tokens - int(ratio * grid.num_tokens)
    places = product(range(grid.frames), range(grid.rows), range(grid.columns))
    return sum(in_running_cell(slot, row, column, ratio) for slot, row, column in places)


def in_running_cell(slot: Any, row: Any, column: Any, ratio: float) -> Any:
    """Whether the token of a temporal slot at (row, column) is predicted: of integers, or of arrays of them.

    A queue of int(4 * ratio) places to leave out and the rest to predict fills each 2 x 2 cell; from one slot
    to the next it moves on by one place (VideoMAE V2, arXiv 2303.16727, section 3.2).
    """
    return ((row % 2) * 2 + column % 2 + slot) % CELL >= int(CELL * ratio)


def problems(
    kind: MaskKind,
    grid: Grid,
    ratio: float,
    rounding: Rounding | None,
    predict: PredictKind,
    predict_ratio: float,
) -> Iterator[tuple[str, str]]:
    """(field of `mask`, what is wrong and what would do) for a grid that such a mask does not fit."""
    number, what = num_units(kind, grid)
    side, kept = cell_side(ratio), kept_units(kind, grid, ratio, rounding)
    if kind == "grid" and not math.isclose(1 - 1 / side**2, ratio, abs_tol=1e-6):
        yield "ratio", f"a grid keeps one patch of each cell: 0.75 of 2 x 2, 0.9375 of 4 x 4, got {ratio}"
    elif kind == "grid" and (grid.rows % side or grid.columns % side):
        yield (
            "kind",
            f"cells of {side} x {side} patches do not fill {grid.rows} x {grid.columns} patches; choose "
            "another size of the input, or mask.kind=random",
        )
    elif kept == 0:
        most = 1 - 1 / number
        yield "ratio", f"keeps none of the {number} {what}, got {ratio}; at most {most:.4g} would do"
    elif kept == number:
        yield "ratio", f"hides none of the {number} {what}, got {ratio}; more than {1 / number:.4g} would do"
    if kind == "grid" and rounding is not None:
        yield "rounding", "a grid has nothing to round; leave it out"
    if predict == "running_cell" and not (CELL * predict_ratio).is_integer():
        yield "predict_ratio", f"a cell has four places: 0.25, 0.5 or 0.75, got {predict_ratio}"
    elif num_predicted(predict, grid, predict_ratio, num_kept=0) == grid.num_tokens:
        yield "predict", f"{predict} leaves out no token at predict_ratio {predict_ratio}; all says so"
