"""Export and import of our own files."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load, save

from mae_dist.config.geometry import Grid
from mae_dist.model.weights.native import (
    ModelCard,
    WeightsError,
    card_from_dict,
    card_markdown,
    load_encoder,
    load_masked_autoencoder,
    to_bytes,
)
from tests.model.small import IMAGENET_MEAN, IMAGENET_STD, SMALL, small_model


def card_of(name: str) -> ModelCard:
    architecture, grid = SMALL[name]
    return ModelCard(
        architecture=architecture,
        frames=grid.frames * architecture.tubelet,
        height=grid.rows * architecture.patch,
        width=grid.columns * architecture.patch,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        target="norm_pixel_mae",
        provenance={"Data": "noise", "Steps": "0"},
    )


@pytest.mark.parametrize("name", sorted(SMALL))
def test_an_export_comes_back_with_the_same_weights_and_card(name):
    weights = small_model(name).state_dict()
    model, card = load_masked_autoencoder(to_bytes(weights, card_of(name)))
    assert card == card_of(name)
    back = model.state_dict()
    assert set(back) == set(weights)
    assert all(torch.equal(back[tensor], weights[tensor]) for tensor in weights)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_encoder_of_an_export_may_be_opened_for_another_grid(name):
    _, grid = SMALL[name]
    original = small_model(name)
    data = to_bytes(original.state_dict(), card_of(name))
    same, _ = load_encoder(data)
    assert torch.equal(same.positions, original.encoder.positions)
    larger = Grid(frames=grid.frames, rows=grid.rows + 2, columns=grid.columns)
    encoder, _ = load_encoder(data, larger)
    assert encoder.positions.shape[0] == larger.num_tokens
    assert torch.equal(encoder.patch_embedding.weight, original.encoder.patch_embedding.weight)


def test_a_card_survives_json():
    card = card_of("videomae")
    assert card_from_dict(json.loads(json.dumps(card.to_dict()))) == card


def test_a_card_for_people_names_normalisation_architecture_and_provenance():
    text = card_markdown(card_of("videomae"))
    for line in (
        "| Input | 4 x 16 x 16 pixels (frames, height, width) |",
        "| Normalisation | (pixels in [0, 1] - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225), RGB |",
        "| Encoder | width 48, depth 3, heads 3, mlp ratio 4 |",
        "| Class token | no |",
        "| Data | noise |",
    ):
        assert line in text


def test_bytes_that_are_no_safetensors_file_are_refused():
    with pytest.raises(WeightsError, match=r"neither a safetensors file nor one of torch\.save \(9 bytes\)"):
        load_encoder(b"not a one")


def test_a_safetensors_file_of_somebody_else_is_refused():
    foreign = save({"x": torch.zeros(1)}, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="metadata says format 'pt', expected 'mae_dist"):
        load_encoder(foreign)


def test_weights_that_do_not_fit_their_card_are_refused_by_name():
    data = to_bytes(small_model("mae").state_dict(), card_of("mae"))
    fewer = {name: tensor for name, tensor in load(data).items() if name != "encoder.norm.bias"}
    with pytest.raises(WeightsError, match=r"do not fit the architecture of their model card.*norm\.bias"):
        load_encoder(to_bytes(fewer, card_of("mae")))


def test_a_card_with_a_field_missing_or_unknown_is_refused_by_name():
    complete = card_of("mae").to_dict()
    with pytest.raises(WeightsError, match="the model card cannot be read: 'std'"):
        card_from_dict({name: value for name, value in complete.items() if name != "std"})
    with pytest.raises(WeightsError, match="unexpected keyword argument 'colour'"):
        card_from_dict(complete | {"colour": "blue"})
