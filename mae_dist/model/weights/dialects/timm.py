"""timm's VisionTransformer: the authors' names for MAE's encoder, and classifiers on it.

Read are plain vision transformers (pre-norm, one class token, biases everywhere, GELU), like `vit_*.mae`, and
supervised ones, whose positions are learned. Registers, layer scale, norms of queries and whatever else has
tensors of its own is refused by the name of the first of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mae_dist.model.weights.dialects.dialect import MAE as FAMILY
from mae_dist.model.weights.dialects.dialect import Dialect
from mae_dist.model.weights.dialects.mae import DECODER, NAMING, is_vision_transformer, probe_head


def _is_timm(names: Collection[str], metadata: Mapping[str, str]) -> bool:
    del metadata
    return is_vision_transformer(names)


TIMM = Dialect(
    name="timm",
    family=FAMILY,
    naming=NAMING,
    detect=_is_timm,
    obstacle=probe_head,
    decoder_marks=DECODER,
)
