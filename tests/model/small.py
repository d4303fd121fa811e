"""Small models and real input for the tests of the model floor."""

from __future__ import annotations

import torch
from torch import Tensor

from mae_dist.config.geometry import Architecture, Grid, Stack
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.patches import gather_tokens, hidden_ids, patchify
from mae_dist.model.targets import normalise

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SMALL_MAE = Architecture(
    patch=4,
    tubelet=1,
    encoder=Stack(width=48, depth=3, heads=3),
    decoder=Stack(width=32, depth=2, heads=4),
    positions="sincos_2d",
    class_token=True,
    key_bias=True,
    bridge_bias=True,
    init="mae",
)
SMALL_VIDEOMAE = Architecture(
    patch=4,
    tubelet=2,
    encoder=Stack(width=48, depth=3, heads=3),
    decoder=Stack(width=32, depth=2, heads=4),
    positions="sincos_1d",
    class_token=False,
    key_bias=False,
    bridge_bias=False,
    init="videomae",
)
SMALL: dict[str, tuple[Architecture, Grid]] = {
    "mae": (SMALL_MAE, Grid(frames=1, rows=6, columns=6)),
    "mae_rectangular": (SMALL_MAE, Grid(frames=1, rows=3, columns=7)),
    "videomae": (SMALL_VIDEOMAE, Grid(frames=2, rows=4, columns=4)),
    "videomae_odd_rectangular": (SMALL_VIDEOMAE, Grid(frames=3, rows=2, columns=5)),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomised(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Every parameter drawn anew, norms and biases too, so that no zero or one hides a mistake."""
    generator = seeded(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                parameter.copy_(centre + 0.1 * noise)
    return model


def clips(architecture: Architecture, grid: Grid, *, num_samples: int = 2, seed: int = 0) -> Tensor:
    """Noise pixels, uint8 (B, T, H, W, 3)."""
    shape = (
        grid.frames * architecture.tubelet,
        grid.rows * architecture.patch,
        grid.columns * architecture.patch,
    )
    return torch.randint(0, 256, (num_samples, *shape, 3), dtype=torch.uint8, generator=seeded(seed))


def keep(grid: Grid, num_kept: int, *, num_samples: int = 2, seed: int = 0) -> Tensor:
    """Ascending ids, int64 (B, K), others for each sample."""
    noise = torch.rand(num_samples, grid.num_tokens, generator=seeded(seed))
    return noise.argsort(dim=1)[:, :num_kept].sort(dim=1).values


def channel(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values)


def pretraining_inputs(
    architecture: Architecture, clips_BTHWC: Tensor, keep_BK: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(kept patches, normalised; hidden patches in [0, 1]; hidden ids), as a pretraining makes them."""
    patches = patchify(clips_BTHWC, patch=architecture.patch, tubelet=architecture.tubelet)
    hidden = hidden_ids(keep_BK, patches.shape[1])
    kept_pixels = gather_tokens(patches, keep_BK).float() / 255
    hidden_pixels = gather_tokens(patches, hidden).float() / 255
    return normalise(kept_pixels, channel(IMAGENET_MEAN), channel(IMAGENET_STD)), hidden_pixels, hidden


def small_model(name: str, *, seed: int = 0) -> MaskedAutoencoder:
    architecture, grid = SMALL[name]
    return MaskedAutoencoder(architecture, grid, generator=seeded(seed))
