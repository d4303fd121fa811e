"""The basis of a run comes from its own first patches, and from nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mae_dist.config.load import load
from mae_dist.data.batch import build_block
from mae_dist.data.catalog import Catalog
from mae_dist.model.patches import patchify
from mae_dist.model.targets import components, normalise
from mae_dist.train.basis import make_basis
from mae_dist.train.training import Training

MICRO_BATCH = 4


@pytest.fixture
def training(tmp_path):
    """Trains on twelve images of noise in large dots, 32 x 32 pixels."""
    rng, keys = np.random.default_rng(0), [f"{number}.png" for number in range(12)]
    for key in keys:
        dots = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(dots.repeat(2, 0).repeat(2, 1)).save(tmp_path / key)
    uris = [str(tmp_path / key) for key in keys]
    catalog = str(tmp_path / "catalog.parquet")
    Catalog.of(keys=keys, uris=uris, media="image", labels=[0] * 12, classes=["noise"]).save(catalog)

    def training(*settings: str) -> Training:
        batches = [f"train.micro_batch={MICRO_BATCH}", "train.global_batch=8"]
        given = ["data.catalog=images", "evaluations={}", *batches, "target={kind: pca, components: 5}"]
        config = load("pretrain/cifar10", [*given, "target.basis_patches=700", *settings])
        return Training(config=config, output=str(tmp_path), catalog=catalog)

    return training


def test_it_is_that_of_the_first_patches_of_the_stream_as_they_are_cropped(training):
    """700 patches of 64 per image are eleven images, the last one not whole."""
    given = training()
    samples, spec = given.training_samples(), given.stream()
    clips = np.concatenate([build_block(block, samples, spec)["clips"] for block in range(3)])
    pixels = patchify(torch.from_numpy(clips), patch=4, tubelet=1).flatten(0, 1)[:700].float() / 255
    size = given.config.input
    values = normalise(pixels, torch.tensor(size.mean), torch.tensor(size.std))
    expected, expected_share = components.fit_components([values], 5)
    data, share = make_basis(given)
    assert share == pytest.approx(expected_share)
    torch.testing.assert_close(components.from_bytes(data).basis, expected.basis, rtol=0, atol=1e-5)
    assert make_basis(given)[0] == data


def test_it_does_not_depend_on_how_batches_are_cut_but_on_the_seed(training):
    once = components.from_bytes(make_basis(training())[0])
    cut = components.from_bytes(make_basis(training("train.micro_batch=2"))[0])
    torch.testing.assert_close(cut.basis, once.basis, rtol=0, atol=1e-5)
    other = components.from_bytes(make_basis(training("seed=1"))[0])
    assert (other.basis - once.basis).abs().max() > 1e-3
