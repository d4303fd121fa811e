"""Same weights, same mask: our loss and gradients are those of Hugging Face's models.

Their weights are random in every tensor; their epsilon is set to the papers' 1e-6 everywhere.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers import VideoMAEConfig, VideoMAEForPreTraining, ViTMAEConfig, ViTMAEForPreTraining

from mae_dist.config.geometry import Architecture, Grid
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.targets import TARGETS, reconstruction_loss
from mae_dist.model.weights.dialects.huggingface import from_huggingface, to_huggingface
from mae_dist.model.weights.header import WeightsError
from tests.model.small import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SMALL,
    channel,
    clips,
    keep,
    pretraining_inputs,
    randomised,
)

SAME_FIELDS = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "layer_norm_eps": 1e-6}


def config_fields(architecture: Architecture, norm_pix_loss: bool) -> dict:
    encoder, decoder = architecture.encoder, architecture.decoder
    return SAME_FIELDS | {
        "patch_size": architecture.patch,
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "intermediate_size": 4 * encoder.width,
        "decoder_hidden_size": decoder.width,
        "decoder_num_hidden_layers": decoder.depth,
        "decoder_num_attention_heads": decoder.heads,
        "decoder_intermediate_size": 4 * decoder.width,
        "norm_pix_loss": norm_pix_loss,
        "attn_implementation": "eager",
    }


def their_mae(architecture: Architecture, grid: Grid, *, norm_pix_loss: bool = True) -> ViTMAEForPreTraining:
    image_size = grid.rows * architecture.patch
    fields = config_fields(architecture, norm_pix_loss)
    model = ViTMAEForPreTraining(ViTMAEConfig(image_size=image_size, mask_ratio=0.75, **fields))
    # transformers 5.23 leaves both position tables at zero in a new model: it takes the projection for
    # initialised before the tables are, and zeroes the decoder's. Their own functions fill them.
    model.vit.embeddings.patch_embeddings.projection._is_hf_initialized = False
    model.vit.embeddings.initialize_weights()
    model.decoder.initialize_weights(grid.num_tokens)
    return model


def their_videomae(
    architecture: Architecture, grid: Grid, *, norm_pix_loss: bool = True
) -> VideoMAEForPreTraining:
    side = (grid.rows * architecture.patch, grid.columns * architecture.patch)
    frames = grid.frames * architecture.tubelet
    model = VideoMAEForPreTraining(
        VideoMAEConfig(
            image_size=side,
            num_frames=frames,
            tubelet_size=architecture.tubelet,
            use_mean_pooling=False,
            **config_fields(architecture, norm_pix_loss),
        )
    )
    model.decoder.norm.eps = 1e-6
    return model


MODELS = {"mae": their_mae, "videomae": their_videomae, "videomae_odd_rectangular": their_videomae}


def their_mae_loss(model, pixels_BTHWC, keep_BK, grid):
    # They keep the int(N / 4) tokens of the smallest noise.
    noise = torch.ones(len(keep_BK), grid.num_tokens).scatter_(1, keep_BK, 0.0)
    noise += torch.arange(grid.num_tokens) / 1000
    return model(pixels_BTHWC[:, 0].permute(0, 3, 1, 2), noise=noise).loss


def their_videomae_loss(model, pixels_BTHWC, keep_BK, grid):
    hidden = torch.ones(len(keep_BK), grid.num_tokens, dtype=torch.bool).scatter_(1, keep_BK, False)
    return model(pixels_BTHWC.permute(0, 1, 4, 2, 3), bool_masked_pos=hidden).loss


def our_loss(model: MaskedAutoencoder, pixels, keep_BK, norm_pix_loss: bool) -> torch.Tensor:
    mean, std = channel(IMAGENET_MEAN), channel(IMAGENET_STD)
    kept, hidden_pixels, hidden = pretraining_inputs(model.architecture, pixels, keep_BK)
    if model.architecture.init == "mae":
        kind = "norm_pixel_mae" if norm_pix_loss else "pixel"
    else:
        kind = "norm_pixel_videomae" if norm_pix_loss else "pixel"
        # Without norm_pix_loss VideoMAE predicts pixels in [0, 1], MAE normalised ones.
        mean, std = (mean, std) if norm_pix_loss else (torch.zeros(3), torch.ones(3))
    return reconstruction_loss(model(kept, keep_BK, hidden), TARGETS[kind](hidden_pixels, mean, std))


@pytest.mark.parametrize("norm_pix_loss", [True, False])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_loss_and_gradients_equal_those_of_hugging_face(name, norm_pix_loss):
    architecture, grid = SMALL[name]
    theirs = randomised(MODELS[name](architecture, grid, norm_pix_loss=norm_pix_loss), seed=3)
    ours = MaskedAutoencoder(architecture, grid)
    ours.load_state_dict(from_huggingface(theirs.state_dict(), architecture, grid))

    uint8 = clips(architecture, grid, num_samples=3)
    keep_BK = keep(grid, int(grid.num_tokens * 0.25), num_samples=3)
    normalised = (uint8.float() / 255 - channel(IMAGENET_MEAN)) / channel(IMAGENET_STD)
    loss_of = their_mae_loss if architecture.init == "mae" else their_videomae_loss
    their_loss = loss_of(theirs, normalised, keep_BK, grid)
    loss = our_loss(ours, uint8, keep_BK, norm_pix_loss)
    assert abs(loss.item() - their_loss.item()) < 1e-6

    loss.backward()
    their_loss.backward()
    their_gradients = {n: p.grad for n, p in theirs.named_parameters() if p.requires_grad}
    our_gradients = {n: p.grad for n, p in ours.named_parameters()}
    expected = from_huggingface(their_gradients | fixed_positions(theirs), architecture, grid)
    assert set(expected) == set(our_gradients)
    for tensor, gradient in our_gradients.items():
        assert (gradient - expected[tensor]).norm() < 1e-5 * expected[tensor].norm(), tensor


def fixed_positions(model) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_gradients_are_compared_for_every_parameter_and_none_is_zero(name):
    architecture, grid = SMALL[name]
    ours = randomised(MaskedAutoencoder(architecture, grid), seed=3)
    our_loss(ours, clips(architecture, grid), keep(grid, grid.num_tokens // 4), True).backward()
    assert all(p.grad is not None and p.grad.norm() > 0 for p in ours.parameters())


@pytest.mark.parametrize("name", sorted(MODELS))
def test_an_encoder_without_a_mask_gives_their_features(name):
    architecture, grid = SMALL[name]
    theirs = randomised(MODELS[name](architecture, grid), seed=4).eval()
    ours = MaskedAutoencoder(architecture, grid).eval()
    ours.load_state_dict(from_huggingface(theirs.state_dict(), architecture, grid))
    everything = torch.arange(grid.num_tokens).expand(2, -1)
    uint8 = clips(architecture, grid)
    patches, _, _ = pretraining_inputs(architecture, uint8, everything)
    normalised = (uint8.float() / 255 - channel(IMAGENET_MEAN)) / channel(IMAGENET_STD)
    with torch.no_grad():
        if architecture.init == "mae":
            theirs.config.mask_ratio = 0.0
            noise = torch.arange(grid.num_tokens).expand(2, -1).float()
            expected = theirs.vit(normalised[:, 0].permute(0, 3, 1, 2), noise=noise).last_hidden_state
        else:
            expected = theirs.videomae(normalised.permute(0, 1, 4, 2, 3)).last_hidden_state
        torch.testing.assert_close(ours.encode(patches), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dialect", ["legacy", "v5"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_our_weights_load_into_their_model_and_come_back_unchanged(name, dialect):
    architecture, grid = SMALL[name]
    ours = randomised(MaskedAutoencoder(architecture, grid), seed=5).state_dict()
    written = to_huggingface(ours, architecture, grid, dialect=dialect)
    config = MODELS[name](architecture, grid).config
    model_class = ViTMAEForPreTraining if architecture.init == "mae" else VideoMAEForPreTraining
    loaded, report = model_class.from_pretrained(
        None, config=config, state_dict=dict(written), output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for back in (
        from_huggingface(written, architecture, grid),
        from_huggingface(loaded.state_dict(), architecture, grid),
    ):
        assert set(back) == set(ours)
        assert all(torch.equal(back[tensor], ours[tensor]) for tensor in ours)


def test_their_weights_of_another_shape_are_refused_by_the_first_missing_name():
    architecture, grid = SMALL["mae"]
    state = their_mae(architecture, grid).state_dict()
    deeper = dataclasses.replace(architecture, encoder=dataclasses.replace(architecture.encoder, depth=4))
    with pytest.raises(WeightsError, match=r"no tensor 'vit\.layers\.3\.layernorm_before\.weight' among"):
        from_huggingface(state, deeper, grid)


def test_their_weights_with_tensors_to_spare_are_refused():
    architecture, grid = SMALL["videomae"]
    state = their_videomae(architecture, grid).state_dict() | {"classifier.weight": torch.zeros(2, 2)}
    with pytest.raises(WeightsError, match=r"1 tensors belong to no part .* 'classifier\.weight'"):
        from_huggingface(state, architecture, grid)


def test_trained_positions_and_those_of_another_input_size_are_refused():
    architecture, grid = SMALL["mae"]
    state = their_mae(architecture, grid).state_dict()
    name = "vit.embeddings.position_embeddings"
    with pytest.raises(WeightsError, match="these positions were trained"):
        from_huggingface(state | {name: state[name] + 0.1}, architecture, grid)
    with pytest.raises(WeightsError, match=r"are for another input size; this model's are \(1, 65, 48\)"):
        from_huggingface(state, architecture, Grid(frames=1, rows=8, columns=8))
