"""The masked autoencoder as a whole."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mae_dist.config.geometry import ARCHITECTURES, Grid
from mae_dist.model.cross_decoder import CrossDecoder
from mae_dist.model.encoder import Encoder, patch_values
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.targets import TARGETS, reconstruction_loss
from mae_dist.model.transformer import recompute_activations
from tests.model.small import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SMALL,
    SMALL_VIDEOMAE,
    channel,
    clips,
    keep,
    pretraining_inputs,
    seeded,
    small_model,
)

NORMALISED = ["norm_pixel_mae", "norm_pixel_videomae"]


@pytest.mark.parametrize("name", sorted(SMALL))
def test_hidden_patches_are_predicted_in_the_order_of_their_ids(name):
    architecture, grid = SMALL[name]
    model = small_model(name).eval()
    kept_ids = keep(grid, grid.num_tokens // 4)
    kept, hidden_pixels, hidden = pretraining_inputs(architecture, clips(architecture, grid), kept_ids)
    prediction = model(kept, kept_ids, hidden)
    assert prediction.shape == hidden_pixels.shape
    flipped = model(kept, kept_ids, hidden.flip(1))
    torch.testing.assert_close(flipped.flip(1), prediction, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_parameter_learns(name):
    architecture, grid = SMALL[name]
    model = small_model(name)
    kept_ids = keep(grid, grid.num_tokens // 4)
    kept, _, hidden = pretraining_inputs(architecture, clips(architecture, grid), kept_ids)
    model(kept, kept_ids, hidden).square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("kind", NORMALISED)
@pytest.mark.parametrize("size", ["mae_micro", "videomae_micro"])
def test_the_loss_of_an_untrained_model_is_one_plus_the_variance_of_its_head(size, kind):
    """A Xavier head on normed tokens of width D predicts P values with variance 2 * D / (D + P).

    A loss far from that at the first step means wrong axes or a wrong normalisation.
    """
    architecture = ARCHITECTURES[size]
    frames = 1 if architecture.class_token else 4
    grid = architecture.grid(frames=frames, height=32, width=32)
    model = MaskedAutoencoder(architecture, grid, generator=seeded(0))
    kept_ids = keep(grid, grid.num_tokens // 4)
    kept, hidden_pixels, hidden = pretraining_inputs(architecture, clips(architecture, grid), kept_ids)
    target = TARGETS[kind](hidden_pixels, channel(IMAGENET_MEAN), channel(IMAGENET_STD))
    with torch.no_grad():
        loss = reconstruction_loss(model(kept, kept_ids, hidden), target).item()
    width, values = architecture.decoder.width, patch_values(architecture)
    assert loss == pytest.approx(1 + 2 * width / (width + values), rel=0.1)


def test_an_image_is_the_clip_of_one_frame():
    """With the same weights, a clip that repeats a frame in each patch gives the tokens of that one frame."""
    image_architecture = dataclasses.replace(SMALL_VIDEOMAE, tubelet=1)
    grid = Grid(frames=1, rows=4, columns=4)
    image_model = Encoder(image_architecture, grid, generator=seeded(0)).eval()
    clip_model = Encoder(SMALL_VIDEOMAE, grid, generator=seeded(1)).eval()
    weights = image_model.state_dict()
    weights["patch_embedding.weight"] = weights["patch_embedding.weight"].repeat(1, 2) / 2
    clip_model.load_state_dict(weights)
    image = clips(image_architecture, grid)
    everything = torch.arange(grid.num_tokens).expand(2, -1)
    image_patches, _, _ = pretraining_inputs(image_architecture, image, everything)
    clip_patches, _, _ = pretraining_inputs(SMALL_VIDEOMAE, image.repeat(1, 2, 1, 1, 1), everything)
    torch.testing.assert_close(clip_model(clip_patches), image_model(image_patches), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_bfloat16_weights_and_input_work_and_stay_near_float32(name):
    architecture, grid = SMALL[name]
    model = small_model(name)
    kept_ids = keep(grid, grid.num_tokens // 4)
    kept, _, hidden = pretraining_inputs(architecture, clips(architecture, grid), kept_ids)
    expected = model(kept, kept_ids, hidden)
    rounded = model.bfloat16()(kept.bfloat16(), kept_ids, hidden)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - expected).norm() < 0.03 * expected.norm()
    rounded.float().square().mean().backward()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_bfloat16_by_autocast_stays_near_float32(name):
    architecture, grid = SMALL[name]
    model = small_model(name)
    kept_ids = keep(grid, grid.num_tokens // 4)
    kept, _, hidden = pretraining_inputs(architecture, clips(architecture, grid), kept_ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = model(kept, kept_ids, hidden)
    expected = model(kept, kept_ids, hidden)
    assert (prediction.float() - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_weights_fit_any_grid_because_positions_are_not_stored(name):
    architecture, grid = SMALL[name]
    assert "positions" not in "".join(small_model(name).state_dict())
    larger = Grid(frames=grid.frames, rows=grid.rows + 1, columns=grid.columns)
    MaskedAutoencoder(architecture, larger).load_state_dict(small_model(name).state_dict())


def test_a_few_steps_on_one_batch_lower_the_loss():
    architecture, grid = SMALL["videomae"]
    model = small_model("videomae")
    kept_ids = keep(grid, 4)
    kept, hidden_pixels, hidden = pretraining_inputs(architecture, clips(architecture, grid), kept_ids)
    target = TARGETS["norm_pixel_videomae"](hidden_pixels, channel(IMAGENET_MEAN), channel(IMAGENET_STD))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = reconstruction_loss(model(kept, kept_ids, hidden), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", sorted(SMALL))
def test_mask_tokens_may_go_through_the_encoder(name):
    """MAE, table 1c: the encoder then sees as many tokens as there are, and no pixel of the hidden ones."""
    architecture, grid = SMALL[name]
    architecture = dataclasses.replace(architecture, encoder_mask_token=True)
    model = MaskedAutoencoder(architecture, grid, generator=seeded(0)).eval()
    assert model.mask_token.shape[-1] == architecture.encoder.width
    kept_ids = keep(grid, grid.num_tokens // 4)
    kept, _, hidden = pretraining_inputs(architecture, clips(architecture, grid), kept_ids)
    lengths: list[int] = []
    model.encoder.blocks[0].register_forward_hook(
        lambda module, inputs, output: lengths.append(output.shape[1])
    )
    prediction = model(kept, kept_ids, hidden)
    assert lengths == [grid.num_tokens + model.encoder.num_extra_tokens]
    assert prediction.shape == (*hidden.shape, patch_values(architecture))
    # Every token has its place: another order of the hidden ones is another order of the predictions.
    torch.testing.assert_close(
        model(kept, kept_ids, hidden.flip(1)), prediction.flip(1), rtol=1e-4, atol=1e-5
    )
    prediction.square().mean().backward()
    assert model.mask_token.grad is not None
    assert model.mask_token.grad.abs().max() > 0


def cross_model(name: str, *, recompute: bool = False) -> tuple[MaskedAutoencoder, tuple[torch.Tensor, ...]]:
    architecture, grid = SMALL[name]
    architecture = dataclasses.replace(architecture, cross_decoder=True)
    model = MaskedAutoencoder(architecture, grid, generator=seeded(0))
    if recompute:
        recompute_activations(model)
    kept_ids = keep(grid, grid.num_tokens // 4)
    kept, _, hidden = pretraining_inputs(architecture, clips(architecture, grid), kept_ids)
    return model, (kept, kept_ids, hidden)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_cross_decoder_predicts_each_token_by_itself(name):
    """CrossMAE: whatever else is predicted, and in whatever order."""
    model, (kept, kept_ids, hidden) = cross_model(name)
    whole = model(kept, kept_ids, hidden)
    assert whole.shape == (*hidden.shape, patch_values(model.architecture))
    part = model(kept, kept_ids, hidden[:, 1::2])
    torch.testing.assert_close(part, whole[:, 1::2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_cross_decoder_trains_every_weight_and_recomputes_to_the_same_gradients(name):
    gradients = []
    for recompute in (False, True):
        model, inputs = cross_model(name, recompute=recompute)
        model(*inputs).square().mean().backward()
        gradients.append({each: weight.grad for each, weight in model.named_parameters()})
        assert [each for each, gradient in gradients[-1].items() if gradient is None] == []
    for each, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][each], gradient)


def test_a_cross_decoder_mixes_what_all_blocks_of_the_encoder_leave():
    """By hand, for one block of the decoder."""
    model, (kept, kept_ids, hidden) = cross_model("mae")
    decoder = model.decoder
    assert isinstance(decoder, CrossDecoder)
    states = model.encoder.states(kept, kept_ids)
    assert len(states) == model.architecture.encoder.depth + 1
    torch.testing.assert_close(states[-1], model.encoder(kept, kept_ids))
    tokens = model.mask_token + model.positions[hidden]
    for index, block in enumerate(decoder.blocks):
        memory = torch.einsum("s,sbme->bme", decoder.mixture[index], torch.stack(states))
        tokens = block(tokens, decoder.memory_norms[index](memory))
    expected = decoder.prediction(decoder.norm(tokens))
    torch.testing.assert_close(model(kept, kept_ids, hidden), expected, rtol=1e-4, atol=1e-5)
