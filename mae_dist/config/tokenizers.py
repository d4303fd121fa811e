"""The discrete VAE whose codes can be predicted, as a run of its own trains it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mae_dist.config.quantities import Count, Positive


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerConfig:
    """A discrete VAE, which gives every patch of an image (of model.size's patches) one of many codes.

    A run with this section trains one in place of a masked autoencoder: of `model` its patch counts, `mask`
    and `target` do nothing, and nothing is evaluated. Each frame of a video is an image.
    """

    vocabulary: Positive = 8192
    """Codes. The number of DALL-E's tokenizer (arXiv 2102.12092), which MAE's table 1d predicts."""
    width: Positive = 256
    """Channels of its convolutions."""
    blocks: Count = 2
    """Residual blocks of its encoder, and of its decoder."""
    temperature: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 0.0625)
    """Of the Gumbel softmax, at first and in the end; DALL-E's."""
    anneal_samples: Positive = 10_000_000
    """Crops after which the temperature has come down, by the same factor with each."""
    kl_weight: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the divergence of the codes of a patch from all codes alike, in nats, beside the squared
    error of the normalised pixels; it keeps codes in use."""
