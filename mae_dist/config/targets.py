"""What the decoder can be asked to predict, and how many values that is; plain numbers.

pixel, norm_pixel_mae, norm_pixel_videomae     the pixels of the patch
pca                                            their coefficients in a basis (MAE, table 1d)
hog                                            histograms of oriented gradients (MaskFeat)
token                                          their codes in a discrete VAE (MAE, table 1d)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mae_dist.config.geometry import Architecture
from mae_dist.config.quantities import Positive

TargetKind = Literal["pixel", "norm_pixel_mae", "norm_pixel_videomae", "pca", "hog", "token"]
TargetFrames = Literal["same", "centre", "double"]

PIXELS = ("pixel", "norm_pixel_mae", "norm_pixel_videomae")
"""Kinds from which there is a way back to pixels."""
MADE = ("pca", "token")
"""Kinds for which a run has to make or fetch something before it can train."""
HOG_CELL = 8
HOG_BINS = 9
"""Side of a cell in pixels and orientations told apart: MaskFeat, arXiv 2112.09133, section 3.2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetConfig:
    """What the decoder predicts for a hidden token."""

    kind: TargetKind = "norm_pixel_mae"
    """pixel: the (mean, std)-normalised pixels. norm_pixel_mae: those, normalised per patch over all its
    values, (x - mean) / sqrt(var + 1e-6). norm_pixel_videomae: pixels in [0, 1], normalised per patch and
    channel, (x - mean) / (sqrt(var) + 1e-6). pca: coefficients of the normalised pixels in a basis that the
    run computes first. hog: orientations of edges in cells of 8 x 8 pixels. token: codes of a discrete VAE,
    by cross-entropy. Variances are unbiased."""
    loss: Literal["mse", "l1", "smooth_l1"] = "mse"
    """Of a predicted value and the true one, averaged over all of them; nothing with kind token. smooth_l1:
    half the square below a difference of 1, the difference less half above."""
    frames: TargetFrames = "same"
    """Of a video. same: the frames of the input. centre: only the one in its middle, number frames // 2.
    double: twice as many at half the stride, of which every other one is seen (VideoMAE)."""
    components: Positive = 96
    """Coefficients of pca."""
    basis_patches: Positive = 250_000
    """Patches that the basis of pca comes from: those of the first training samples, cropped as these are."""
    tokenizer: str | None = None
    """Discrete VAE of kind token: a run of a tokenizer recipe, or the file that it exported."""
    vocabulary: Positive = 8192
    """Codes of that discrete VAE."""

    @property
    def gives_pixels(self) -> bool:
        """Whether a prediction can be shown beside the input."""
        return self.kind in PIXELS and self.frames == "same"

    @property
    def is_made(self) -> bool:
        """Whether something has to be made or fetched first."""
        return self.kind in MADE

    def num_frames(self, tubelet: int) -> int:
        """Frames that the target of one token spans, for a model whose patches span `tubelet`."""
        return {"same": tubelet, "centre": 1, "double": 2 * tubelet}[self.frames]

    def num_values(self, architecture: Architecture) -> int | None:
        """Numbers that the decoder predicts for one token; None: as many as its patch has."""
        if self.gives_pixels:
            return None
        frames, patch = self.num_frames(architecture.tubelet), architecture.patch
        match self.kind:
            case "pca":
                return self.components
            case "hog":
                return frames * (patch // HOG_CELL) ** 2 * architecture.channels * HOG_BINS
            case "token":
                return frames * self.vocabulary
        return frames * patch**2 * architecture.channels
