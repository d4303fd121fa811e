"""How frozen features are kept, and the protocols that learn from nothing else: many heads at once, or votes.

Features are extracted once and kept on disk; `feature_probe`, `attentive_probe` and `knn` then never touch an
image again. What is chosen (a head, k, a layer) is chosen on training samples that were held out, never on
the test samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from mae_dist.config.duration import Duration
from mae_dist.config.quantities import Count, Length, Positive

FROZEN_PROTOCOLS = ("feature_probe", "attentive_probe", "knn")
"""The protocols that read kept features; the others train on the stream of samples."""

FROZEN_SECTIONS = ("features", "heads", "attentive", "knn")
"""Sections of an evaluation that only these protocols use."""
KEPT_FEATURES = ("layers", "pools", "drawn_views", "dtype")
"""Fields of `features` that decide what is extracted; the others say how it is used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeaturesConfig:
    """What is kept of each view of a sample, and how much of it at once is held in memory.

    Evaluations of equal layers, pools, views and dtype share one extraction. It takes views * layers *
    pools * width numbers per sample; attentive_probe keeps all tokens, see its own section.
    """

    layers: tuple[int, ...] = (-1,)
    """Encoder blocks whose output is kept, after the encoder's last norm: 1 is the first, -1 the last."""
    pools: tuple[Literal["mean", "class_token"], ...] = ("mean",)
    """From tokens to one vector; the probes try every layer with every pool. Not for attentive_probe."""
    drawn_views: Count = 0
    """Augmented crops kept of each training sample, drawn as `augment` says; 0: training samples are looked
    at like test samples, by `views`."""
    dtype: Literal["float16", "float32"] = "float16"
    """Of the numbers on disk; normed tokens fit float16."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Of the training samples of every class, held out to choose with."""
    memory_gb: Annotated[float, Field(gt=0)] = 4.0
    """Features held in memory. More of them are shuffled in parts of so much, drawn anew in every epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadsConfig:
    """The heads that are trained side by side: one per learning rate, weight decay, layer and pool."""

    length: Length = Duration(30, "epochs")
    warmup: Length = Duration(0, "steps")
    batch: Positive = 1024
    """Views per update."""
    kind: Literal["sgd", "lars", "adamw"] = "sgd"
    base_lrs: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    """For a batch of 256 each; the peak used is base_lr * batch / 256, and it falls to 0 by half a cosine."""
    weight_decays: tuple[float, ...] = (0.0,)
    """Not applied to biases."""
    momentum: float = 0.9
    """SGD and LARS only."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentiveConfig:
    """The pooler of attentive_probe, a learned query that attends to all tokens of one layer (V-JEPA).

    All tokens are kept: width * tokens * 2 bytes per view in float16. With ViT-B that is 0.4 TB for
    ImageNet-1k and 0.6 TB for one clip of each Kinetics-400 video, read in every epoch that does not fit into
    memory; in return no epoch decodes or runs the encoder.
    """

    blocks: Count = 0
    """Self-attention blocks over the tokens before the pooler (V-JEPA 2 has 3)."""
    heads: Positive = 16
    """Attention heads, a divisor of the encoder's width."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnnConfig:
    """Votes of the nearest training samples by cosine, each weighted by exp(similarity / temperature)."""

    neighbours: tuple[Positive, ...] = (10, 20, 100, 200)
    """Every k is scored on the validation samples; the best one is reported."""
    temperature: Annotated[float, Field(gt=0)] = 0.07
