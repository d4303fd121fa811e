"""Principal components against numpy's singular values, and their file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mae_dist.config.targets import TargetConfig
from mae_dist.model.patches import patchify
from mae_dist.model.targets import TargetMaker, components, normalise
from mae_dist.model.weights.header import WeightsError
from tests.model.small import IMAGENET_MEAN, IMAGENET_STD, SMALL, channel, clips, keep, seeded


def correlated(count: int) -> torch.Tensor:
    """Patches (count, 12) of which few directions hold most, float64."""
    mixing = torch.randn(12, 12, generator=seeded(1), dtype=torch.float64)
    return (
        torch.randn(count, 12, generator=seeded(0), dtype=torch.float64) * 2.0 ** -torch.arange(12) @ mixing
        + 1
    )


def numpy_components(patches: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray, float]:
    centre = patches.mean(0)
    _, sizes, rows = np.linalg.svd(patches - centre, full_matrices=False)
    basis = rows[:number].T
    largest = basis[abs(basis).argmax(0), np.arange(number)]
    return centre, basis * np.sign(largest), (sizes[:number] ** 2).sum() / (sizes**2).sum()


def test_components_are_those_of_numpys_singular_value_decomposition():
    patches = correlated(500)
    found, share = components.fit_components(patches.split(77), 5)
    centre, basis, expected_share = numpy_components(patches.numpy(), 5)
    np.testing.assert_allclose(found.basis.numpy(), basis, atol=1e-5)
    np.testing.assert_allclose(found(patches.float()).numpy(), (patches.numpy() - centre) @ basis, atol=1e-4)
    assert share == pytest.approx(expected_share, rel=1e-9)


def test_the_parts_that_patches_come_in_do_not_matter():
    patches = correlated(100)
    once, pieces = (components.fit_components(patches.split(size), 12)[0] for size in (100, 7))
    torch.testing.assert_close(once.basis, pieces.basis)


def test_all_components_together_lose_nothing():
    patches = correlated(200).float()
    found, share = components.fit_components([patches], 12)
    torch.testing.assert_close(found(patches) @ found.basis.T + found.centre, patches, rtol=0, atol=1e-4)
    assert share == pytest.approx(1)


def test_a_target_of_coefficients_is_that_of_the_normalised_pixels_in_the_basis_of_the_file():
    architecture, grid = SMALL["mae"]
    basis, _ = components.fit_components([torch.randn(200, 48, generator=seeded(0))], 7)
    made = components.to_bytes(basis)
    maker = TargetMaker(TargetConfig(kind="pca", components=7), architecture, grid, made)
    decoded, mean, std = clips(architecture, grid), channel(IMAGENET_MEAN), channel(IMAGENET_STD)
    seen = patchify(decoded, patch=4, tubelet=1)
    ids, _ = maker.places(keep(grid, 9), None, grid.num_tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = maker(decoded, seen, ids, mean, std)
    assert found.dtype == torch.float32
    pixels = normalise(seen[1, ids[1, 3]].float()[None, None] / 255, mean, std)[0, 0].numpy()
    np.testing.assert_allclose(
        found[1, 3].numpy(), (pixels - basis.centre.numpy()) @ basis.basis.numpy(), atol=1e-5
    )
    assert maker.state_dict() == {}


def test_a_file_of_something_else_is_refused():
    with pytest.raises(WeightsError, match="a file of weights, but not an export of mae_dist"):
        components.from_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
