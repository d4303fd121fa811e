"""Our encoder has the features of timm's vision transformers with MAE weights (`vit_*.mae`)."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from mae_dist.config.geometry import Grid
from mae_dist.model.encoder import Encoder
from mae_dist.model.positions import sincos_2d
from tests.model.small import SMALL_MAE, clips, keep, pretraining_inputs, randomised

NAMES = {
    "patch_embed.proj": "patch_embedding",
    "norm1": "attention_norm",
    "norm2": "mlp_norm",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.output",
    "mlp.fc1": "mlp.expand",
    "mlp.fc2": "mlp.contract",
    "cls_token": "class_token",
}


def ours_from_timm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    ours = {}
    for name, tensor in state.items():
        for their_part, our_part in NAMES.items():
            name = name.replace(their_part, our_part)
        ours[name] = tensor
    kernel = ours["patch_embedding.weight"]
    ours["patch_embedding.weight"] = kernel.permute(0, 2, 3, 1).flatten(1)
    del ours["pos_embed"]
    return ours


@pytest.mark.parametrize("grid", [Grid(frames=1, rows=5, columns=5), Grid(frames=1, rows=3, columns=6)])
def test_features_equal_those_of_timm(grid):
    stack = SMALL_MAE.encoder
    theirs = VisionTransformer(
        img_size=(grid.rows * SMALL_MAE.patch, grid.columns * SMALL_MAE.patch),
        patch_size=SMALL_MAE.patch,
        embed_dim=stack.width,
        depth=stack.depth,
        num_heads=stack.heads,
        num_classes=0,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    ).eval()
    randomised(theirs, seed=1)
    with torch.no_grad():
        theirs.pos_embed.zero_()[0, 1:] = sincos_2d(grid, stack.width)
    ours = Encoder(SMALL_MAE, grid).eval()
    ours.load_state_dict(ours_from_timm(theirs.state_dict()))
    images = clips(SMALL_MAE, grid)
    patches, _, _ = pretraining_inputs(SMALL_MAE, images, torch.arange(grid.num_tokens).expand(2, -1))
    pixels = images[:, 0].permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = theirs.forward_features((pixels - mean) / std)
        torch.testing.assert_close(ours(patches), expected, rtol=0, atol=1e-5)


def test_masked_features_would_differ():
    """The comparison above can fail: one token less changes the others by far more than its tolerance."""
    grid = Grid(frames=1, rows=5, columns=5)
    encoder = randomised(Encoder(SMALL_MAE, grid), seed=1).eval()
    ids = keep(grid, grid.num_tokens - 1)
    images = clips(SMALL_MAE, grid)
    everything = torch.arange(grid.num_tokens).expand(2, -1)
    patches, _, _ = pretraining_inputs(SMALL_MAE, images, everything)
    kept, _, _ = pretraining_inputs(SMALL_MAE, images, ids)
    with torch.no_grad():
        assert (encoder(patches)[:, 0] - encoder(kept, ids)[:, 0]).abs().max() > 1e-3
