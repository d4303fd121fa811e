"""Weights of a run in five lines, outside of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mae_dist
from mae_dist import storage
from mae_dist.config.geometry import architecture
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.patches import patchify, unpatchify
from mae_dist.model.pretrained import PretrainedEncoder
from mae_dist.model.targets import normalise
from mae_dist.model.weights.header import WeightsError, exported_weights
from mae_dist.model.weights.native import ModelCard, to_bytes
from tests.model.small import IMAGENET_MEAN, IMAGENET_STD

SIZES = {"mae_micro": (1, 16), "videomae_micro": (4, 32)}


def export(run: Path, size: str) -> MaskedAutoencoder:
    """A run directory with the export of random weights."""
    frames, side = SIZES[size]
    its = architecture(size)
    card = ModelCard(
        architecture=its,
        frames=frames,
        height=side,
        width=side,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        target="norm_pixel_mae",
    )
    model = MaskedAutoencoder(its, card.grid, generator=torch.Generator().manual_seed(1)).eval()
    storage.write_bytes(exported_weights(str(run)), to_bytes(model.state_dict(), card))
    return model


@pytest.fixture(params=SIZES)
def pretrained(request, tmp_path) -> tuple[PretrainedEncoder, MaskedAutoencoder, np.ndarray]:
    """The loaded encoder, the model that it is of, and pixels."""
    model = export(tmp_path, request.param)
    frames, side = SIZES[request.param]
    pixels = np.random.default_rng(0).integers(0, 256, (2, frames, side, side, 3), dtype=np.uint8)
    return mae_dist.load(str(tmp_path)), model, pixels


def tokens(model: MaskedAutoencoder, pixels: np.ndarray) -> torch.Tensor:
    """What the model itself makes of all patches."""
    its = model.architecture
    patches = patchify(torch.from_numpy(pixels) / 255, patch=its.patch, tubelet=its.tubelet)
    return model.encode(normalise(patches, torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)))


def test_all_of_the_pixels_become_the_features_that_the_model_gives(pretrained):
    encoder, model, pixels = pretrained
    expected = tokens(model, pixels)
    torch.testing.assert_close(encoder.encode(pixels, pool="tokens"), expected)
    extra = model.encoder.num_extra_tokens
    torch.testing.assert_close(encoder.encode(pixels), expected[:, extra:].mean(1))
    torch.testing.assert_close(encoder.encode(torch.from_numpy(pixels) / 255), encoder.encode(pixels))
    assert not encoder.training


def test_the_class_token_is_given_where_there_is_one(pretrained):
    encoder, model, pixels = pretrained
    if model.encoder.num_extra_tokens:
        torch.testing.assert_close(encoder.encode(pixels, pool="class_token"), tokens(model, pixels)[:, 0])
    else:
        with pytest.raises(ValueError, match="no class token; mean or tokens would do"):
            encoder.encode(pixels, pool="class_token")


def test_pixels_of_another_size_get_positions_of_their_own(pretrained):
    encoder, model, pixels = pretrained
    wide = np.concatenate([pixels, pixels], axis=3)
    other = MaskedAutoencoder(
        model.architecture,
        model.architecture.grid(frames=wide.shape[1], height=wide.shape[2], width=wide.shape[3]),
    ).eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(encoder.encode(wide, pool="tokens"), tokens(other, wide))


def test_only_what_is_named_is_seen_where_a_mask_is_asked_for(pretrained):
    encoder, _, pixels = pretrained
    keep = torch.tensor([[0, 3, 5], [1, 2, 7]])
    seen = encoder.encode(pixels, keep_BK=keep)
    its = encoder.card.architecture
    patches = patchify(torch.from_numpy(pixels), patch=its.patch, tubelet=its.tubelet)
    kept = torch.zeros_like(patches, dtype=torch.bool)
    kept.scatter_(1, keep[..., None].expand(-1, -1, patches.shape[-1]), True)
    changed = torch.where(kept, patches, 255 - patches)
    grid = encoder.card.grid
    hidden = unpatchify(changed, grid, patch=its.patch, tubelet=its.tubelet)
    torch.testing.assert_close(encoder.encode(hidden, keep_BK=keep), seen)
    assert (encoder.encode(hidden) - encoder.encode(pixels)).abs().max() > 1e-3


def test_an_image_is_a_clip_of_one_frame(tmp_path):
    export(tmp_path, "mae_micro")
    encoder = mae_dist.load(exported_weights(str(tmp_path)))
    images = torch.rand(2, 16, 16, 3)
    torch.testing.assert_close(encoder.encode(images), encoder.encode(images[:, None]))


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        pytest.param(torch.rand(2, 3, 16, 16), "expected images", id="channels first"),
        pytest.param(torch.rand(16, 16, 3), "expected images", id="no batch"),
        pytest.param(torch.zeros(1, 16, 16, 3, dtype=torch.int64), "got torch.int64", id="integers"),
        pytest.param(255 * torch.ones(1, 16, 16, 3), r"values in \[0, 1\], got 255", id="bytes as floats"),
        pytest.param(torch.rand(1, 18, 16, 3), "height must be a multiple of 4", id="a part of a patch"),
    ],
)
def test_pixels_that_do_not_fit_are_refused(tmp_path, pixels, problem):
    export(tmp_path, "mae_micro")
    with pytest.raises(ValueError, match=problem):
        mae_dist.load(str(tmp_path)).encode(pixels)


def test_what_is_no_export_is_refused_by_its_name(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "a.pt")
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "a.pt").read_bytes())
    with pytest.raises(WeightsError, match=r"model.safetensors: "):
        mae_dist.load(str(tmp_path / "model.safetensors"))
    with pytest.raises(storage.StorageNotFoundError):
        mae_dist.load(str(tmp_path / "no-run"))


def test_the_package_alone_does_not_import_torch():
    code = "import sys, mae_dist; assert mae_dist.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
