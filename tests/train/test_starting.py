"""What a pretraining begins with: weights given as a whole, in part, or inflated."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mae_dist import storage
from mae_dist.config.geometry import Architecture, Grid, architecture
from mae_dist.config.starts import StartConfig
from mae_dist.model.classifier import Classifier
from mae_dist.model.encoder import Encoder
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.weights import classifier, native
from mae_dist.model.weights.header import WeightsError, exported_weights
from mae_dist.train.starting import take_start

IMAGE, CLIP = architecture("mae_micro"), architecture("videomae_micro")
IMAGE_GRID, CLIP_GRID = Grid(frames=1, rows=4, columns=4), Grid(frames=2, rows=4, columns=4)


def made(its: Architecture, grid: Grid, seed: int) -> MaskedAutoencoder:
    return MaskedAutoencoder(its, grid, generator=torch.Generator().manual_seed(seed))


def card(its: Architecture, grid: Grid) -> native.ModelCard:
    return native.ModelCard(
        architecture=its,
        frames=grid.frames * its.tubelet,
        height=grid.rows * its.patch,
        width=grid.columns * its.patch,
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        target="pixel",
    )


@pytest.fixture
def run(tmp_path) -> str:
    """A run directory with the export of a VideoMAE."""
    data = native.to_bytes(made(CLIP, CLIP_GRID, 1).state_dict(), card(CLIP, CLIP_GRID))
    storage.write_bytes(exported_weights(str(tmp_path)), data)
    return str(tmp_path)


def changed(model: MaskedAutoencoder, before: MaskedAutoencoder) -> set[str]:
    """First words of the names of the weights that differ."""
    old = before.state_dict()
    return {
        name.partition(".")[0] for name, values in model.state_dict().items() if not values.equal(old[name])
    }


def test_without_weights_the_model_stays_as_it_was_drawn():
    model = made(CLIP, CLIP_GRID, 2)
    take_start(model, StartConfig())
    assert changed(model, made(CLIP, CLIP_GRID, 2)) == set()


def test_encoder_and_decoder_go_on_where_they_were_also_on_another_grid(run):
    grid = Grid(frames=4, rows=2, columns=6)
    model = made(CLIP, grid, 2)
    take_start(model, StartConfig(weights=run))
    given = made(CLIP, CLIP_GRID, 1).state_dict()
    assert all(values.equal(given[name]) for name, values in model.state_dict().items())
    assert model.positions.shape[0] == grid.num_tokens


def test_the_encoder_alone_leaves_the_decoder_as_it_was_drawn(run):
    other = replace(CLIP, decoder=replace(CLIP.decoder, depth=1))
    model = made(other, CLIP_GRID, 2)
    take_start(model, StartConfig(weights=exported_weights(run), parts="encoder"))
    assert changed(model, made(other, CLIP_GRID, 2)) == {"encoder"}
    given = made(CLIP, CLIP_GRID, 1).encoder.state_dict()
    assert all(values.equal(given[name]) for name, values in model.encoder.state_dict().items())


def test_an_image_encoder_is_inflated(tmp_path):
    wanted = replace(CLIP, patch=4, encoder=IMAGE.encoder)
    data = native.to_bytes(made(IMAGE, IMAGE_GRID, 1).state_dict(), card(IMAGE, IMAGE_GRID))
    storage.write_bytes(str(tmp_path / "image.safetensors"), data)
    model = made(wanted, CLIP_GRID, 2)
    start = StartConfig(weights=str(tmp_path / "image.safetensors"), parts="encoder", inflate="center")
    take_start(model, start)
    given = made(IMAGE, IMAGE_GRID, 1).encoder.state_dict()
    embedding = model.encoder.patch_embedding.weight.chunk(2, dim=1)
    assert embedding[0].abs().max() == 0
    assert embedding[1].equal(given["patch_embedding.weight"])
    assert model.encoder.norm.weight.equal(given["norm.weight"])
    assert changed(model, made(wanted, CLIP_GRID, 2)) == {"encoder"}


def test_a_supervised_encoder_starts_one_whose_last_norm_begins_anew(tmp_path):
    """Of a fine-tuning with mean pooling, which norms the average instead of the tokens."""
    torch.manual_seed(0)
    model = Classifier(Encoder(CLIP, CLIP_GRID), 3)
    its = classifier.ClassifierCard(model=card(CLIP, CLIP_GRID), classes=("a", "b", "c"), pool="mean")
    storage.write_bytes(str(tmp_path / "a.safetensors"), classifier.to_bytes(model.state_dict(), its))
    started = made(CLIP, CLIP_GRID, 2)
    take_start(started, StartConfig(weights=str(tmp_path / "a.safetensors"), parts="encoder"))
    expected = model.encoder.state_dict()
    state = started.encoder.state_dict()
    assert all(state[name].equal(values) for name, values in expected.items())
    assert state.keys() - expected.keys() == {"norm.weight", "norm.bias"}
    assert (state["norm.weight"] == 1).all()


def test_weights_that_do_not_fit_are_named_with_their_file(run):
    model = made(architecture("videomae_micro", decoder_depth=1), CLIP_GRID, 2)
    with pytest.raises(WeightsError, match=r"model.safetensors: the weights do not fit the model: .*decoder"):
        take_start(model, StartConfig(weights=run))
