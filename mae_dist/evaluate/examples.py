"""Files that somebody names, as a masked autoencoder sees them and what it makes of them.

    weights -> Reconstructor        file -> centre crop of the middle -> mask -> pictures and errors

No run and no catalog: what a run does with its held-out samples is in `reconstruction.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from mae_dist import storage
from mae_dist.config.schema import AugmentConfig, InputConfig, MaskConfig
from mae_dist.config.testing import ViewsConfig
from mae_dist.data.limits import DecodeError
from mae_dist.data.masking import keep_ids
from mae_dist.data.media import media_of
from mae_dist.data.views import Request, ViewSpec, decode_views
from mae_dist.evaluate.reconstruction import compare_predictors, errors, pictures
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.weights import native
from mae_dist.model.weights.header import CLASSIFIER, WeightsError, metadata_of
from mae_dist.model.weights.native import ModelCard


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One file: three clips of one shape, uint8 (T, H, W, 3), and how far the predictions are off."""

    original: np.ndarray
    masked: np.ndarray
    """Hidden patches are grey."""
    reconstructed: np.ndarray
    """Hidden patches as predicted, visible ones as they were."""
    errors: dict[str, float]
    """By predictor: mean squared error of pixels in [0, 1] over hidden patches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconstructor:
    """A masked autoencoder with its decoder, and what it takes to show it a file."""

    model: MaskedAutoencoder
    card: ModelCard

    @classmethod
    def load(cls, uri: str) -> Self:
        """Open the export of a pretraining, on the CPU.

        Raises StorageError if it cannot be read, WeightsError if it is none or has lost its decoder.
        """
        data = storage.read_bytes(uri)
        try:
            if metadata_of(data).get("format") == CLASSIFIER:
                raise WeightsError("of a fine-tuning, which has no decoder; give the run it is from")
            model, card = native.load_masked_autoencoder(data)
            if card.architecture.predicted is not None:
                raise WeightsError(
                    f"predicts no pixels of what it sees (target {card.target}); nothing to show"
                )
        except WeightsError as error:
            raise WeightsError(f"{uri}: {error}") from error
        return cls(model=model.eval(), card=card)

    def input(self, **choice: object) -> InputConfig:
        """The pixels that the model takes; `choice` says how frames are chosen, as fields of `input` do."""
        card = self.card
        size = {"frames": card.frames, "height": card.height, "width": card.width}
        size["channels"] = card.architecture.channels
        return InputConfig(**size, mean=card.mean, std=card.std, **choice)  # type: ignore[arg-type]

    def show(self, uri: str, mask: MaskConfig, size: InputConfig, *, seed: int, number: int = 0) -> Example:
        """Mask one file, and fill in what the model predicts.

        An image is cropped in its middle, a video also in time; (seed, number) is the key of the mask. A
        normalised target has lost mean and spread of a patch: they are put back from the original. Raises
        StorageError or DecodeError if the file cannot be read.
        """
        media = media_of(uri)
        if media is None:
            raise DecodeError("neither an image nor a video by its name")
        spec = ViewSpec(seed=seed, input=size, augment=AugmentConfig(), test=ViewsConfig())
        clips = np.empty((1, size.frames, size.height, size.width, size.channels), np.uint8)
        request = Request(storage.read_bytes(uri), media, sample=number, epochs=(0,))
        decode_views(request, spec, clips)
        grid = self.model.grid
        keep = keep_ids(
            mask.kind, grid, mask.ratio, rounding=mask.rounding, seed=seed, epoch=0, sample=number
        )
        pixels = torch.from_numpy(clips)
        found = compare_predictors(self.model, self.card, grid, pixels, torch.from_numpy(keep)[None])
        shown = {name: clip[0] for name, clip in pictures(self.card, grid, pixels, found).items()}
        return Example(**shown, errors={name: error.mean().item() for name, error in errors(found).items()})
