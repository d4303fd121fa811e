"""Where a pretraining starts: the section `start` of a recipe, and mistakes about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mae_dist.config.schema import RunConfig

Inflation = Literal["mean", "center"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StartConfig:
    """The weights that a pretraining begins with; optimiser and schedule begin anew, samples are its own.

    Positions are those of this recipe's input, whatever the weights were trained on: they are functions of
    the grid. What is resumed goes on from its own checkpoint, and takes nothing from here again.
    """

    weights: str | None = None
    """A run directory, or a file that a pretraining or fine-tuning exported; null: weights are drawn."""
    parts: Literal["all", "encoder"] = "all"
    """all: encoder and decoder, of the shapes of this recipe. encoder: that alone; the decoder is drawn."""
    inflate: Inflation | None = None
    """How the patches of an image encoder become tubelets. mean: its weights for each frame, divided by
    their number (arXiv 1705.07750). center: its weights for the middle frame, zero for the others (arXiv
    2103.15691). A class token is dropped where this recipe has none. Null: tubelets must be equal."""


def start_settings(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Settings that need each other, and weights that nothing would begin with."""
    start = config.start
    if start.weights is None:
        for name, default in (("inflate", None), ("parts", "all")):
            given = getattr(start, name)
            if given != default:
                yield f"start.{name}", f"{given}, but of which weights? give --set start.weights=URI"
        return
    if config.weights is not None:
        yield (
            "start.weights",
            "is not used beside `weights`, which nothing is pretrained from; null for one of the two",
        )
    if start.inflate is not None and start.parts == "all":
        yield (
            "start.parts",
            "all, but an image model's decoder predicts no tubelets; encoder goes with start.inflate",
        )
    if start.inflate is not None and config.model.architecture.tubelet == 1:
        yield "start.inflate", f"{start.inflate}, but patches are of one frame each; null, or model.tubelet=2"
