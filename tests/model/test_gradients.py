"""Oriented gradients against a plain numpy version, and on edges whose direction is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mae_dist.model.targets import oriented_gradients
from tests.model.small import seeded


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=seeded(0))


def numpy_gradients(picture: np.ndarray) -> np.ndarray:
    """(H, W) of one channel to (H / 8, W / 8, 9)."""
    height, width = picture.shape
    padded = np.pad(picture.astype(float), 1, mode="reflect")
    cells = np.zeros((height // 8, width // 8, 9))
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    for row, column in np.ndindex(height, width):
        window = padded[row : row + 3, column : column + 3]
        right, below = (window * sobel).sum(), (window * sobel.T).sum()
        orientation = int(np.floor(np.arctan2(below, right) * 9 / np.pi)) % 9
        cells[row // 8, column // 8, orientation] += np.hypot(right, below)
    return cells / np.maximum(np.linalg.norm(cells, axis=-1, keepdims=True), 1e-12)


def test_gradients_are_what_a_plain_version_finds():
    clips = noise(2, 2, 16, 32)
    found = oriented_gradients(clips, patch=16, tubelet=2)
    assert found.shape == (2, 2, 2 * 2 * 2 * 3 * 9)
    for sample, token in np.ndindex(2, 2):
        patch = found[sample, token].reshape(2, 2, 2, 3, 9)
        for frame, channel in np.ndindex(2, 3):
            whole = numpy_gradients(clips[sample, frame, :, :, channel].numpy())
            expected = whole[:, 2 * token : 2 * token + 2]
            np.testing.assert_allclose(patch[frame, :, :, channel].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("axis", "orientation"), [(1, 0), (0, 4)])
def test_an_edge_falls_into_the_orientation_across_it(axis, orientation):
    """Brighter to the right: 0 degrees. Brighter below: 90, which is in the fifth of nine parts of 180."""
    ramp = torch.arange(16, dtype=torch.uint8) * 10
    picture = (
        (ramp if axis else ramp[:, None]).expand(16, 16)[None, None, :, :, None].expand(-1, -1, -1, -1, 3)
    )
    for pixels in (picture, 255 - picture):
        histogram = oriented_gradients(pixels, patch=16, tubelet=1).reshape(2, 2, 3, 9)
        assert (histogram[..., orientation] == 1).all()
        assert histogram.sum() == 4 * 3


def test_brightness_and_contrast_do_not_matter():
    dark = noise(1, 1, 16, 16) // 4
    found = [oriented_gradients(clips, patch=8, tubelet=1) for clips in (dark, dark + 100, dark * 2)]
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


def test_a_flat_picture_has_no_gradients():
    assert not oriented_gradients(
        torch.full((1, 1, 16, 16, 3), 7, dtype=torch.uint8), patch=8, tubelet=1
    ).any()
