"""`mae-dist reconstruct WEIGHTS FILE...`: pictures that show what the model saw and said, pixel for pixel."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

from mae_dist import storage
from mae_dist.cli.main import main
from mae_dist.config.geometry import architecture
from mae_dist.config.load import load as load_recipe
from mae_dist.config.load import to_yaml
from mae_dist.data.masking import keep_ids
from mae_dist.data.video import encode_h264, read_clip
from mae_dist.model.classifier import Classifier
from mae_dist.model.encoder import Encoder
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.weights import classifier, native
from mae_dist.model.weights.header import exported_weights

IMAGE, CLIP = ("mae_nano", 1, 16), ("videomae_micro", 4, 32)


def export(run: Path, kind: tuple[str, int, int], *, target: str = "norm_pixel_mae") -> native.ModelCard:
    """A run directory with the export of random weights."""
    size, frames, side = kind
    card = native.ModelCard(
        architecture=architecture(size),
        frames=frames,
        height=side,
        width=2 * side,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.25, 0.3),
        target=target,
    )
    model = MaskedAutoencoder(card.architecture, card.grid, generator=torch.Generator().manual_seed(1))
    storage.write_bytes(exported_weights(str(run)), native.to_bytes(model.state_dict(), card))
    return card


def picture(path: Path, height: int, width: int) -> np.ndarray:
    """A PNG of noise; its pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def thirds(path: Path) -> list[np.ndarray]:
    """The pictures that stand side by side in a file, without the gaps between them."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    width = (sheet.shape[1] - 4) // 3
    return [sheet[:, left : left + width] for left in (0, width + 2, 2 * width + 4)]


def is_visible(card: native.ModelCard, kind: str, ratio: float, *, seed: int, sample: int) -> np.ndarray:
    """Which pixels of a frame a mask leaves: bool (T, H, W)."""
    grid, its = card.grid, card.architecture
    tokens = np.zeros(grid.num_tokens, bool)
    tokens[keep_ids(kind, grid, ratio, seed=seed, epoch=0, sample=sample)] = True
    cells = tokens.reshape(grid.frames, grid.rows, grid.columns)
    return cells.repeat(its.tubelet, 0).repeat(its.patch, 1).repeat(its.patch, 2)


def test_an_image_stands_beside_what_was_seen_of_it_and_what_was_made_of_it(tmp_path, capsys):
    card = export(tmp_path / "run", IMAGE)
    pixels = picture(tmp_path / "cat.png", 16, 32)
    out = tmp_path / "out"
    command = ["reconstruct", str(tmp_path / "run"), str(tmp_path / "cat.png"), "--out", str(out)]
    assert main([*command, "--mask-ratio", "0.5", "--seed", "3"]) == 0
    original, masked, made = thirds(out / "cat-reconstructed.png")
    [seen] = is_visible(card, "random", 0.5, seed=3, sample=0)
    assert (original == pixels).all()
    assert (masked[seen] == pixels[seen]).all()
    assert (masked[~seen] == 128).all()
    assert (made[seen] == pixels[seen]).all()
    assert (made[~seen] != 128).mean() > 0.9
    printed = capsys.readouterr().out
    assert printed.startswith("norm_pixel_mae, random mask of 0.5\n")
    assert "mean visible pixel 0.0" in printed
    assert printed.endswith(f": {out}/cat-reconstructed.png\n")
    error = float(printed.partition("error ")[2].split()[0])
    hidden = np.square(made[~seen] / 255 - pixels[~seen] / 255).mean()
    assert error == pytest.approx(hidden, abs=2e-3)


@pytest.mark.parametrize("target", ["norm_pixel_mae", "norm_pixel_videomae"])
def test_a_normalised_patch_gets_brightness_and_contrast_of_the_original(tmp_path, target):
    """Of a model that says 0 for every value: what is pasted back is the mean of the patch, and no more."""
    card = export(tmp_path / "run", IMAGE, target=target)
    file = exported_weights(str(tmp_path / "run"))
    weights, _ = native.from_bytes(storage.read_bytes(file))
    for name in ("decoder.prediction.weight", "decoder.prediction.bias"):
        weights[name] = torch.zeros_like(weights[name])
    storage.write_bytes(file, native.to_bytes(weights, card))
    # One colour in each patch and a little noise around it, which has another mean in no channel.
    shade = np.random.default_rng(1).integers(40, 200, (4, 8, 1), np.uint8).repeat(3, 2)
    pixels = shade.repeat(4, 0).repeat(4, 1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert main(["reconstruct", file, str(tmp_path / "a.png"), "--out", str(tmp_path)]) == 0
    original, _, made = thirds(tmp_path / "a-reconstructed.png")
    assert (original == pixels).all()
    if target == "norm_pixel_videomae":
        assert np.abs(made.astype(int) - pixels).max() <= 1
    else:
        # MAE's mean is of the normalised values of all channels together.
        mean, std = np.array(card.mean), np.array(card.std)
        centre = ((pixels / 255 - mean) / std).mean(-1, keepdims=True) * std + mean
        [seen] = is_visible(card, "random", 0.75, seed=0, sample=0)
        expected = np.clip(centre, 0, 1) * 255
        np.testing.assert_allclose(made[~seen], expected[~seen], atol=1)


@pytest.mark.parametrize("clip", ["mp4", "gif"])
def test_a_clip_is_a_sheet_of_three_rows_and_plays_side_by_side(tmp_path, clip):
    card = export(tmp_path / "run", CLIP, target="pixel")
    moving = np.zeros((20, 32, 64, 3), np.uint8)
    for frame in range(20):
        moving[frame, 8:24, frame : frame + 16] = 200
    (tmp_path / "a.mp4").write_bytes(encode_h264(moving, 10))
    command = ["reconstruct", str(tmp_path / "run"), str(tmp_path / "a.mp4"), "--out", str(tmp_path / "out")]
    assert main([*command, "--frame-stride", "2", "--clip", clip]) == 0
    sheet = np.asarray(Image.open(tmp_path / "out" / "a-reconstructed.png").convert("RGB"))
    assert sheet.shape == (3 * 32 + 4, 4 * 64 + 3 * 2, 3)
    seen = is_visible(card, "tube", 0.9, seed=0, sample=0)
    masked = np.stack([sheet[34:66, 66 * frame : 66 * frame + 64] for frame in range(4)])
    assert (masked[~seen] == 128).all()
    original = np.stack([sheet[:32, 66 * frame : 66 * frame + 64] for frame in range(4)])
    # The block moves by the stride from frame to frame.
    places = [np.flatnonzero(frame[16, :, 0] > 100)[0] for frame in original]
    assert np.diff(places).tolist() == [2, 2, 2]
    data = (tmp_path / "out" / f"a-reconstructed.{clip}").read_bytes()
    if clip == "gif":
        gif = Image.open(io.BytesIO(data))
        assert (gif.n_frames, gif.size) == (4, (3 * 64 + 4, 32))
    else:
        played = read_clip(data, lambda seconds: np.arange(len(seconds)))
        assert played.shape == (4, 32, 3 * 64 + 4, 3)
        assert np.abs(played[:, :, :64].astype(int) - original).mean() < 10


def test_the_mask_of_a_run_is_that_of_its_recipe(tmp_path, capsys):
    export(tmp_path / "run", IMAGE)
    picture(tmp_path / "a.png", 16, 32)
    settings = ["data.catalog=none", "mask.kind=grid", "model.size=mae_nano"]
    (tmp_path / "run" / "config.yaml").write_text(to_yaml(load_recipe("pretrain/cifar10", settings)))
    command = ["reconstruct", str(tmp_path / "run"), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("norm_pixel_mae, grid mask of 0.75\n")
    assert main([*command, "--mask", "block", "--mask-ratio", "0.5"]) == 0
    assert capsys.readouterr().out.startswith("norm_pixel_mae, block mask of 0.5\n")


def test_files_of_one_name_get_pictures_of_their_own_and_other_masks(tmp_path):
    export(tmp_path / "run", IMAGE)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        picture(tmp_path / folder / "a.png", 16, 32)
    files = [str(tmp_path / folder / "a.png") for folder in ("x", "y")]
    assert main(["reconstruct", str(tmp_path / "run"), *files, "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a-reconstructed-2.png",
        "a-reconstructed.png",
    ]
    one, other = (
        thirds(tmp_path / "out" / name)[1] for name in ("a-reconstructed.png", "a-reconstructed-2.png")
    )
    assert (one != other).any()


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_shown(tmp_path, capsys):
    export(tmp_path / "run", IMAGE)
    picture(tmp_path / "good.png", 16, 32)
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("notes")
    files = [str(tmp_path / name) for name in ("bad.png", "notes.txt", "good.png")]
    assert main(["reconstruct", str(tmp_path / "run"), *files, "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path}/bad.png: not a readable image: of no known format",
        f"{tmp_path}/notes.txt: neither an image nor a video by its name",
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good-reconstructed.png"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--mask-ratio", "1.5"], "--mask-ratio: ratio must lie strictly between 0 and 1, got 1.5"),
        (["--mask", "grid", "--mask-ratio", "0.6"], "--mask-ratio: a grid keeps one patch of each cell"),
        (["--mask", "frame"], "--mask-ratio: hides none of the 1 frames of tokens, got 0.75"),
        (["--frame-stride", "0"], "--frame-stride: must be at least 1, got 0"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_with_what_would_do(tmp_path, capsys, options, problem):
    export(tmp_path / "run", IMAGE)
    picture(tmp_path / "a.png", 16, 32)
    out = tmp_path / "out"
    command = ["reconstruct", str(tmp_path / "run"), str(tmp_path / "a.png"), "--out", str(out), *options]
    assert main(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reconstruct: 1 problem(s)"
    assert lines[1].strip().startswith(problem)


def test_weights_without_a_decoder_are_refused_as_such(tmp_path, capsys):
    card = export(tmp_path / "run", IMAGE)
    file = exported_weights(str(tmp_path / "run"))
    weights, _ = native.from_bytes(storage.read_bytes(file))
    encoder = {name: values for name, values in weights.items() if name.startswith("encoder.")}
    alone = tmp_path / "encoder.safetensors"
    alone.write_bytes(native.to_bytes(encoder, card))
    tuned = tmp_path / "tuned.safetensors"
    its = classifier.ClassifierCard(model=card, classes=("a", "b"), pool="mean")
    model = Classifier(Encoder(card.architecture, card.grid), 2)
    tuned.write_bytes(classifier.to_bytes(model.state_dict(), its))
    other = tmp_path / "other.safetensors"
    other.write_bytes(save(load(alone.read_bytes())))
    codes = tmp_path / "codes.safetensors"
    predicting = dataclasses.replace(
        card, architecture=dataclasses.replace(card.architecture, predicted=8), target="token"
    )
    decoder = MaskedAutoencoder(predicting.architecture, card.grid)
    codes.write_bytes(native.to_bytes(decoder.state_dict(), predicting))
    for path, reason in [
        (codes, "predicts no pixels of what it sees (target token); nothing to show"),
        (alone, "an encoder alone: the file holds no decoder, and nothing can be reconstructed"),
        (tuned, "of a fine-tuning, which has no decoder; give the run it is from"),
        (other, "a file of weights, but not an export of mae_dist"),
    ]:
        assert main(["reconstruct", str(path), "a.png", "--out", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err.startswith(f"{path}: {reason}")


def test_a_run_without_weights_is_told_with_the_file_looked_for(tmp_path, capsys):
    assert main(["reconstruct", str(tmp_path), "a.png", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path}/export/model.safetensors: ")
