"""The encoder sees what it is given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mae_dist.config.geometry import ARCHITECTURES
from mae_dist.model.encoder import Encoder
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.patches import gather_tokens, patchify
from tests.model.small import SMALL, clips, keep, seeded, small_model


def float_patches(name: str, **how) -> torch.Tensor:
    architecture, grid = SMALL[name]
    pixels = clips(architecture, grid, **how).float() / 255
    return patchify(pixels, patch=architecture.patch, tubelet=architecture.tubelet)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_class_token_stands_in_front_exactly_where_the_architecture_has_one(name):
    architecture, grid = SMALL[name]
    encoder = Encoder(architecture, grid, generator=seeded(0))
    extra = 1 if architecture.class_token else 0
    assert encoder.num_extra_tokens == extra
    assert encoder(float_patches(name)).shape == (2, grid.num_tokens + extra, architecture.encoder.width)
    assert ("class_token" in encoder.state_dict()) == architecture.class_token


@pytest.mark.parametrize("name", sorted(SMALL))
def test_encoding_a_whole_input_never_masks(name):
    """Every patch reaches the result, in training mode too, and no draw is involved."""
    _, grid = SMALL[name]
    model = small_model(name).train()
    patches = float_patches(name).requires_grad_()
    tokens = model.encode(patches)
    assert torch.equal(tokens, model.encode(patches))
    everything = torch.arange(grid.num_tokens).expand(2, -1)
    torch.testing.assert_close(tokens, model.encoder(patches, everything))
    tokens[:, -1].square().sum().backward()
    assert patches.grad is not None
    assert (patches.grad.abs().amax(-1) > 0).all()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_what_is_not_kept_has_no_influence(name):
    architecture, grid = SMALL[name]
    encoder = Encoder(architecture, grid, generator=seeded(0)).eval()
    ids = keep(grid, grid.num_tokens // 3)
    patches = float_patches(name)
    changed = torch.full_like(patches, 7.0)
    changed.scatter_(1, ids.unsqueeze(-1).expand(-1, -1, patches.shape[-1]), gather_tokens(patches, ids))
    assert torch.equal(encoder(gather_tokens(patches, ids), ids), encoder(gather_tokens(changed, ids), ids))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_kept_tokens_may_come_in_any_order(name):
    architecture, grid = SMALL[name]
    encoder = Encoder(architecture, grid, generator=seeded(0)).eval()
    ids, patches = keep(grid, grid.num_tokens // 2), float_patches(name)
    forward = encoder(gather_tokens(patches, ids), ids)
    backward = encoder(gather_tokens(patches, ids.flip(1)), ids.flip(1))
    extra = encoder.num_extra_tokens
    torch.testing.assert_close(backward[:, :extra], forward[:, :extra], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(backward[:, extra:].flip(1), forward[:, extra:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_equal_generators_give_equal_weights_whatever_the_global_state(name):
    torch.manual_seed(1)
    first = small_model(name, seed=5).state_dict()
    torch.manual_seed(2)
    again = small_model(name, seed=5).state_dict()
    other = small_model(name, seed=6).state_dict()
    assert all(torch.equal(first[tensor], again[tensor]) for tensor in first)
    assert not torch.equal(first["mask_token"], other["mask_token"])


@pytest.mark.parametrize("size", ["mae_micro", "videomae_micro"])
def test_initial_weights_are_as_each_paper_draws_them(size):
    architecture = ARCHITECTURES[size]
    frames = 1 if architecture.class_token else 4
    grid = architecture.grid(frames=frames, height=32, width=32)
    weights = MaskedAutoencoder(architecture, grid, generator=seeded(0)).state_dict()
    width, decoder_width = architecture.encoder.width, architecture.decoder.width
    patch_values = weights["encoder.patch_embedding.weight"].shape[1]

    def bound(tensor: str) -> float:
        return weights[tensor].abs().max().item()

    # Uniform draws come within 3% of their bound: Xavier sqrt(6 / (in + out)), torch's 1 / sqrt(in).
    def xavier(fan_in: int, fan_out: int) -> float:
        return (6 / (fan_in + fan_out)) ** 0.5

    mae = architecture.init == "mae"
    expected = {
        "encoder.blocks.0.attention.qkv.weight": xavier(width, 3 * width),
        "encoder.blocks.0.mlp.expand.weight": xavier(width, 4 * width),
        "decoder.prediction.weight": xavier(decoder_width, patch_values),
        "encoder.patch_embedding.weight": xavier(patch_values, width) if mae else patch_values**-0.5,
        "encoder.patch_embedding.bias": patch_values**-0.5,
        "bridge.weight": xavier(width, decoder_width) if mae else width**-0.5,
    }
    assert {name: bound(name) for name in expected} == pytest.approx(expected, rel=0.03)
    assert bound("decoder.prediction.bias") == 0
    if mae:
        assert bound("bridge.bias") == 0
        assert weights["encoder.class_token"].std().item() == pytest.approx(0.02, rel=0.2)
        assert bound("mask_token") > 0.02
    else:
        assert bound("encoder.blocks.0.attention.query_bias") == 0
        assert 0.015 < bound("mask_token") <= 0.02


def test_the_output_of_every_layer_is_that_of_an_encoder_that_ends_there():
    given = ARCHITECTURES["mae_nano"]
    grid = given.grid(frames=1, height=16, width=16)
    encoder = Encoder(given, grid, generator=seeded(0)).eval()
    patches = torch.randn(2, grid.num_tokens, 48, generator=seeded(1))
    found = encoder.layers(patches, {2, 4})
    assert sorted(found) == [2, 4]
    assert torch.equal(found[4], encoder(patches))
    shorter = Encoder(replace(given, encoder=replace(given.encoder, depth=2)), grid)
    weights = {
        name: w for name, w in encoder.state_dict().items() if not name.startswith(("blocks.2", "blocks.3"))
    }
    shorter.load_state_dict(weights)
    assert torch.equal(found[2], shorter(patches))
