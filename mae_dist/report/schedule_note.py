"""At what scale masked autoencoding is known to make a better classifier, for a run that shows no gain.

The published numbers are quoted with their schedule, so that a reader can see how far a small run is away.
Sources: MAE, arXiv 2111.06377 (table 3 and appendix A); VideoMAE, arXiv 2203.12602 (table 2 and appendix).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mae_dist.report import wording


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedGain:
    """Fine-tuning accuracy with and without pretraining, and what the pretraining took."""

    what: str
    epochs: int
    samples_per_epoch: int
    random: float
    pretrained: float
    source: str

    @property
    def samples(self) -> int:
        """Images or clips seen in pretraining: epochs * samples_per_epoch."""
        return self.epochs * self.samples_per_epoch


IMAGES = PublishedGain(
    what="MAE ViT-B on ImageNet-1k",
    epochs=1600,
    samples_per_epoch=1_281_167,
    random=82.3,
    pretrained=83.6,
    source="arXiv 2111.06377, table 3",
)
VIDEOS = PublishedGain(
    what="VideoMAE ViT-B on Kinetics-400",
    epochs=800,
    samples_per_epoch=240_436,
    random=68.8,
    pretrained=80.0,
    source="arXiv 2203.12602, table 2",
)


def published_gain(config: Mapping[str, Any]) -> PublishedGain:
    """The published gain nearest to a run: that of images for clips of one frame, else that of videos."""
    return VIDEOS if (config.get("input") or {}).get("frames", 1) > 1 else IMAGES


def schedule_note(config: Mapping[str, Any], pretraining: Mapping[str, Any]) -> str:
    """How long this run trained, how long the published one did, and what that one gained."""
    known = published_gain(config)
    unit = "clip" if known is VIDEOS else "image"
    samples, steps = pretraining["samples"], wording.plural(pretraining["steps"], "step")
    ratio = f", {wording.about(known.samples / samples)} times as many" if samples else ""
    seen = f"This run's pretraining saw {wording.plural(samples, unit)} in {steps}. "
    needed = (
        f"{known.what} saw {known.samples / 1e6:,.0f} million in {known.epochs:,} epochs{ratio}; fine-tuned, "
        f"it reaches {known.pretrained:.1f} % where training from random weights reaches "
        f"{known.random:.1f} % ({known.source}). "
    )
    return (
        f"{seen}{needed}A few hundred steps lower the reconstruction error well before they make a better "
        "classifier."
    )
