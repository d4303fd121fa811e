"""An image encoder as the start of one for clips.

Patches become tubelets, positions are made anew for the grid of the clips, and what the video encoder does
not have is left out: a bias of the keys, which softmax cannot see, and a class token, which it can.
The first is exact, so that clips that stand still give the image encoder's patch embeddings; positions and a
missing class token are not, and are what the training that follows gets used to.

Letters: D width, T frames of a tubelet, P values of an image patch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from mae_dist.config.geometry import Architecture
from mae_dist.config.starts import Inflation


def mean_frames(weight_DP: Tensor, tubelet: int) -> Tensor:
    """The same weights for each frame, divided by their number: (D, T * P) (I3D, arXiv 1705.07750)."""
    return weight_DP.repeat(1, tubelet) / tubelet


def center_frame(weight_DP: Tensor, tubelet: int) -> Tensor:
    """The weights for frame T // 2, zeros for the others: (D, T * P) (ViViT, arXiv 2103.15691, 3.4)."""
    inflated = weight_DP.new_zeros(len(weight_DP), tubelet, weight_DP.shape[1])
    inflated[:, tubelet // 2] = weight_DP
    return inflated.flatten(1)


INFLATIONS: dict[Inflation, Callable[[Tensor, int], Tensor]] = {"mean": mean_frames, "center": center_frame}


def inflate_encoder(weights: Mapping[str, Tensor], wanted: Architecture, how: Inflation) -> dict[str, Tensor]:
    """The state dict of an image `Encoder` as one of the architecture `wanted`, of the same stack and patch.

    How a patch is laid out, frame by frame, is told in `patches.py`. Positions that were learned on images
    are left behind: the wanted architecture computes its own.
    """
    inflated = dict(weights)
    inflated.pop("positions", None)
    name = "patch_embedding.weight"
    inflated[name] = INFLATIONS[how](inflated[name], wanted.tubelet)
    if not wanted.class_token:
        inflated.pop("class_token", None)
    if not wanted.key_bias:
        for bias in [name for name in inflated if name.endswith("attention.qkv.bias")]:
            query, _, value = inflated.pop(bias).chunk(3)
            attention = bias.removesuffix("qkv.bias")
            inflated |= {f"{attention}query_bias": query, f"{attention}value_bias": value}
    return inflated
