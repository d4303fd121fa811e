"""How a trained model is tested: from how many sides, on which other sets, beside which published number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from mae_dist.config.quantities import Positive


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewsConfig:
    """From how many sides a test sample is looked at; its answer is the mean of their softmax."""

    clips: Positive = 1
    """Windows of a video, spread over its length; 1 lies in the middle. VideoMAE: 5 on Kinetics, 2 on
    Something-Something."""
    crops: Positive = 1
    """Boxes as large as `side` says, spread along the longer side; 1 lies in the middle. VideoMAE: 3."""
    side: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Side of a box as a fraction of the largest one. VideoMAE: 1. MAE: .875, which is 224 of 256 pixels."""

    @property
    def count(self) -> int:
        """Views of one sample: number clip * crops + crop is that crop of that clip."""
        return self.clips * self.crops


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedResult:
    """A number from a paper, for the report to stand beside ours."""

    value: float
    """In percent: top-1 accuracy, the frame mAP of action detection, or of corruptions the mean corruption
    error, of which less is better."""
    source: str
    """Where it was published, with the settings that differ."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RobustnessConfig:
    """Another test set, on which fine-tuned weights are scored as they are; nothing is trained for it."""

    catalog: str | None = None
    """Its samples, as data.test_catalog; null leaves it out."""
    layout: Literal["classes", "corruptions"] = "classes"
    """classes: any test set with some of the trained classes or all (ImageNet-A, -R, -Sketch). corruptions:
    every image in several versions, as CORRUPTION/SEVERITY/CLASS/IMAGE below a folder (ImageNet-C)."""
    class_names: str | None = None
    """A CSV of lines "name in this set,name in the training samples" for classes that are called otherwise
    there; null means that the names are the same."""
    answers: Literal["of_the_set", "all"] = "of_the_set"
    """Among which classes an answer is looked for: those that the set has, as the authors of ImageNet-A and
    -R score it, or all that were trained."""
    views: ViewsConfig = field(default_factory=ViewsConfig)
    published: PublishedResult | None = None

    @property
    def kind(self) -> str:
        """How the source is read, one of `readers.KINDS` or "auto"."""
        return "corruptions" if self.layout == "corruptions" else "auto"
