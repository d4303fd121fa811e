"""The model beside two predictors that learn nothing, each checked against loops that cannot be clever."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mae_dist import storage
from mae_dist.config.geometry import Grid
from mae_dist.config.load import load
from mae_dist.config.schema import RunConfig
from mae_dist.data.catalog import Catalog
from mae_dist.data.masking import keep_ids
from mae_dist.data.sources import make_source
from mae_dist.evaluate import reconstruction
from mae_dist.evaluate.reconstruction import compare_predictors, evaluate_reconstruction, nearest_kept
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.patches import hidden_ids
from mae_dist.model.targets import TARGETS
from mae_dist.model.weights import native

NUM_CLIPS = 5


@pytest.fixture(scope="module")
def config() -> RunConfig:
    """Clips of 4 frames of 32 x 32: a grid of 2 x 4 x 4 with patches of 8."""
    settings = ["input.frames=4", "input.height=32", "input.width=32", "gallery_samples=3", "mask.ratio=0.5"]
    return load("pretrain/demo", settings)


@pytest.fixture(scope="module")
def clips_folder(tmp_path_factory) -> str:
    """A catalog of drawn clips, in a folder of its own."""
    folder = str(tmp_path_factory.mktemp("clips"))
    source = f"drawn://moving_clips?samples={NUM_CLIPS}&seed=2"
    make_source(source, work_folder=folder).save(f"{folder}/catalog.parquet")
    return folder


def card_of(config: RunConfig) -> native.ModelCard:
    """The card of a pretraining by this recipe."""
    return native.ModelCard(
        architecture=config.model.architecture,
        frames=config.input.frames,
        height=config.input.height,
        width=config.input.width,
        mean=config.input.mean,
        std=config.input.std,
        target=config.target.kind,
    )


@pytest.fixture(scope="module")
def weights(config, tmp_path_factory) -> str:
    """A freshly initialised model, exported."""
    torch.manual_seed(0)
    model = MaskedAutoencoder(config.model.architecture, config.grid)
    file = tmp_path_factory.mktemp("export") / "model.safetensors"
    file.write_bytes(native.to_bytes(model.state_dict(), card_of(config)))
    return str(file)


def cut(clip: np.ndarray, token: int) -> np.ndarray:
    """The pixels of one token of a (4, 32, 32, 3) clip."""
    t, row, column = token // 16, token % 16 // 4, token % 4
    return clip[2 * t : 2 * t + 2, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]


def compared(config: RunConfig) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(clips, kept ids, what the predictors say) for noise pixels and the recipe's own masks."""
    clips = np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32, 3), dtype=np.uint8)
    mask = config.mask
    keep = np.stack(
        [keep_ids(mask.kind, config.grid, mask.ratio, seed=0, epoch=0, sample=i) for i in range(3)]
    )
    torch.manual_seed(0)
    model = MaskedAutoencoder(config.model.architecture, config.grid).eval()
    card = card_of(config)
    found = compare_predictors(model, card, config.grid, torch.from_numpy(clips), torch.from_numpy(keep))
    return clips, keep, {name: values.numpy() for name, values in found.items()}


def test_the_trivial_predictors_are_what_loops_over_pixels_say(config):
    clips, keep, found = compared(config)
    for sample in range(3):
        visible = [cut(clips[sample], token) for token in keep[sample]]
        colour = np.stack(visible).reshape(-1, 3).mean(0) / 255
        for place, token in enumerate(found["hidden"][sample]):
            assert token not in keep[sample]
            truth = cut(clips[sample], token).reshape(-1) / 255
            np.testing.assert_allclose(found["truth"][sample, place], truth, atol=1e-6)
            np.testing.assert_allclose(
                found["mean_visible"][sample, place].reshape(-1, 3), np.tile(colour, (128, 1)), atol=1e-5
            )
            nearest = min(keep[sample], key=lambda kept: distance(config.grid, token, kept))
            np.testing.assert_allclose(
                found["nearest_visible"][sample, place],
                cut(clips[sample], nearest).reshape(-1) / 255,
                atol=1e-6,
            )


def distance(grid: Grid, one: int, other: int) -> int:
    """Squared, between two tokens, in steps of the grid."""
    places = [
        (token // grid.per_frame, token % grid.per_frame // grid.columns, token % grid.columns)
        for token in (one, other)
    ]
    return sum((a - b) ** 2 for a, b in zip(*places, strict=True))


@pytest.mark.parametrize("kind", ["block", "frame", "random", "tube"])
@pytest.mark.parametrize(
    "grid",
    [Grid(frames=1, rows=5, columns=9), Grid(frames=8, rows=7, columns=5)],
    ids=["image", "video"],
)
def test_the_nearest_kept_token_is_the_one_that_brute_force_finds(kind, grid):
    keep = np.stack([keep_ids(kind, grid, 0.8, seed=1, epoch=0, sample=sample) for sample in range(3)])
    hidden = hidden_ids(torch.from_numpy(keep), grid.num_tokens)
    found = nearest_kept(grid, torch.from_numpy(keep), hidden)
    for sample in range(3):
        expected = [
            min(range(keep.shape[1]), key=lambda place: distance(grid, token, keep[sample, place]))
            for token in hidden[sample].tolist()
        ]
        assert found[sample].tolist() == expected


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_a_model_that_predicts_the_target_has_no_error(config, kind):
    """An oracle instead of the decoder; then what is compared are pixels, whatever the target."""
    config = replace(config, target=replace(config.target, kind=kind))
    clips, keep, found = compared(config)
    mean, std = torch.tensor(config.input.mean), torch.tensor(config.input.std)
    target = TARGETS[kind](torch.from_numpy(found["truth"]), mean, std)
    oracle = compare_predictors(
        lambda *_: target,  # type: ignore[arg-type]
        card_of(config),
        config.grid,
        torch.from_numpy(clips),
        torch.from_numpy(keep),
    )
    np.testing.assert_allclose(oracle["model"].numpy(), found["truth"], atol=1e-5)


def test_an_evaluation_writes_errors_and_pictures_that_agree(config, clips_folder, weights, tmp_path):
    result = evaluate_reconstruction(
        config, weights=weights, catalog=f"{clips_folder}/catalog.parquet", output=str(tmp_path)
    )
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert (result["num_samples"], result["num_hidden_tokens"]) == (NUM_CLIPS, NUM_CLIPS * 16)
    assert result["own_statistics"] is False
    gallery = np.load(io.BytesIO((tmp_path / "gallery.npz").read_bytes()))
    for name in ("original", "masked", "reconstructed"):
        assert gallery[name].shape == (3, 4, 32, 32, 3)
        assert gallery[name].dtype == np.uint8
    errors = []
    for sample in range(3):
        keep = keep_ids("tube", config.grid, 0.5, seed=config.seed, epoch=0, sample=sample)
        for token in range(config.grid.num_tokens):
            original, masked, made = (
                cut(gallery[name][sample], token) for name in ("original", "masked", "reconstructed")
            )
            if token in keep:
                assert (original == masked).all()
                assert (original == made).all()
            else:
                assert (masked == 128).all()
                assert not (original == 128).all()
                errors.append(((original / 255 - made / 255) ** 2).mean())
    # Three of the five clips; as bytes, so not to the last digit.
    assert np.mean(errors) == pytest.approx(result["model_mse"], rel=0.5)
    assert len({result[f"{name}_mse"] for name in ("model", "mean_visible", "nearest_visible")}) == 3


def test_the_error_is_the_mean_over_all_hidden_tokens_whatever_the_batch(
    config, clips_folder, weights, tmp_path, monkeypatch
):
    catalog = f"{clips_folder}/catalog.parquet"
    whole = evaluate_reconstruction(config, weights=weights, catalog=catalog, output=str(tmp_path))
    monkeypatch.setattr(reconstruction, "BATCH", 2)
    parts = evaluate_reconstruction(config, weights=weights, catalog=catalog, output=str(tmp_path))
    assert parts == pytest.approx(whole)


def broken_catalog(clips_folder: str, tmp_path, *samples: int) -> str:
    """The clips, of which these are no videos."""
    catalog = Catalog.load(f"{clips_folder}/catalog.parquet")
    rows = catalog.rows(np.arange(NUM_CLIPS))
    for number, row in enumerate(rows):
        data = b"not a video" if number in samples else storage.read_bytes(row.uri)
        (tmp_path / f"{number}.mp4").write_bytes(data)
    uri = str(tmp_path / "catalog.parquet")
    Catalog.of(
        keys=[row.key for row in rows],
        uris=[str(tmp_path / f"{number}.mp4") for number in range(NUM_CLIPS)],
        media="video",
        labels=[row.label for row in rows],
        classes=catalog.classes,
    ).save(uri)
    return uri


@pytest.mark.parametrize("batch", [2, 32])
def test_an_unreadable_sample_is_left_out_and_listed_and_no_other_is_counted_twice(
    config, clips_folder, weights, tmp_path, monkeypatch, batch
):
    monkeypatch.setattr(reconstruction, "BATCH", batch)
    catalog, output = broken_catalog(clips_folder, tmp_path, 0, 1), tmp_path / "out"
    result = evaluate_reconstruction(config, weights=weights, catalog=catalog, output=str(output))
    assert result["num_samples"] == NUM_CLIPS - 2
    faults = [json.loads(line) for line in (output / "faults.jsonl").read_text().splitlines()]
    assert [fault["sample"] for fault in faults] == [0, 1]
    assert faults[0]["uri"].endswith("0.mp4")
    assert {"step", "reason", "replaced_by"} <= faults[0].keys()


def test_weights_of_another_size_are_evaluated_at_the_size_of_the_recipe(
    config, clips_folder, weights, tmp_path
):
    """As `weights` may be: the positions are those of this grid, not of the one in the card."""
    smaller = replace(config, input=replace(config.input, width=16))
    result = evaluate_reconstruction(
        smaller, weights=weights, catalog=f"{clips_folder}/catalog.parquet", output=str(tmp_path)
    )
    assert result["num_hidden_tokens"] == NUM_CLIPS * 8
    assert np.load(tmp_path / "gallery.npz")["masked"].shape == (3, 4, 32, 16, 3)
