"""Actions of boxes: RoIAlign against one written loop by loop, and the head around it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mae_dist.config.geometry import Grid
from mae_dist.model.detector import Detector, box_features
from mae_dist.model.encoder import Encoder
from mae_dist.model.patches import patchify
from tests.model.small import SMALL, clips, randomised, seeded

PATCH = 4
EVERYWHERE = "videomae", "mae", "videomae_odd_rectangular"


def detector_of(name: str, **options) -> Detector:
    detector = Detector(Encoder(*SMALL[name]), 5, generator=seeded(0), **options)
    randomised(detector, seed=1)
    return detector.eval()


def patches_of(name: str, grid: Grid | None = None) -> torch.Tensor:
    architecture, own = SMALL[name]
    pixels = clips(architecture, grid or own).float() / 255
    return patchify(pixels, patch=architecture.patch, tubelet=architecture.tubelet)


def bilinear(surface: np.ndarray, y: float, x: float) -> float:
    """The value of a map (h, w) between its places, which are whole numbers; 0 a place and more outside."""
    if y > surface.shape[0] or x > surface.shape[1]:
        return 0.0
    y, x = (float(np.clip(place, 0, side - 1)) for place, side in zip((y, x), surface.shape, strict=True))
    top, left = int(y), int(x)
    bottom, right = min(top + 1, surface.shape[0] - 1), min(left + 1, surface.shape[1] - 1)
    upper = surface[top, left] * (1 - x + left) + surface[top, right] * (x - left)
    lower = surface[bottom, left] * (1 - x + left) + surface[bottom, right] * (x - left)
    return upper * (1 - y + top) + lower * (y - top)


def maximum_over_cells(surface: np.ndarray, box: tuple[float, ...]) -> float:
    x1, y1, x2, y2 = (side / PATCH for side in box)
    cell_height, cell_width = max(y2 - y1, 1) / 7, max(x2 - x1, 1) / 7
    rows, columns = math.ceil(cell_height), math.ceil(cell_width)
    cells = []
    for row in range(7):
        for column in range(7):
            samples = [
                bilinear(
                    surface,
                    y1 + cell_height * (row + (i + 0.5) / rows),
                    x1 + cell_width * (column + (j + 0.5) / columns),
                )
                for i in range(rows)
                for j in range(columns)
            ]
            cells.append(sum(samples) / len(samples))
    return max(cells)


@pytest.mark.parametrize("shape", [(14, 14), (16, 28), (3, 5)])
def test_features_of_boxes_are_those_of_a_roialign_written_loop_by_loop(shape):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 3, *shape)).astype(np.float32)
    height, width = (PATCH * side for side in shape)
    boxes = []
    for _ in range(20):
        (x1, x2), (y1, y2) = np.sort(rng.uniform(0, width, 2)), np.sort(rng.uniform(0, height, 2))
        boxes.append((int(rng.integers(2)), x1, y1, x2, y2))
    boxes += [(0, 0, 0, width, height), (1, width - 1, height - 1, width, height), (1, 5.0, 5.0, 5.0, 5.0)]
    found = box_features(torch.from_numpy(maps), torch.tensor(boxes), patch=PATCH).numpy()
    for (clip, *box), features in zip(boxes, found, strict=True):
        expected = [maximum_over_cells(surface, tuple(box)) for surface in maps[clip]]
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_box_gets_its_row_of_logits_from_its_own_clip(name):
    detector, grid = detector_of(name), SMALL[name][1]
    patches = patches_of(name)
    boxes = torch.tensor([(1, 2.0, 1.0, 6.0, 7.0), (0, 2.0, 1.0, 6.0, 7.0), (1, 0.0, 0.0, 8.0, 8.0)])
    logits = detector(patches, boxes, grid)
    assert logits.shape == (3, 5)
    alone = detector(patches[1:], torch.cat([torch.zeros(2, 1), boxes[[0, 2], 1:]], dim=1), grid)
    assert torch.allclose(logits[[0, 2]], alone, atol=1e-6)
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)


def test_a_batch_without_boxes_has_no_logits_and_gradients_of_zero():
    detector = detector_of("videomae")
    logits = detector(patches_of("videomae"), torch.zeros(0, 5), SMALL["videomae"][1])
    assert logits.shape == (0, 5)
    logits.sum().backward()
    # Zero, not missing: ranks that average gradients would wait for it.
    assert [name for name, p in detector.named_parameters() if p.grad is None or p.grad.any()] == []


@pytest.mark.parametrize("name", ["videomae", "mae"])
def test_a_larger_picture_is_read_with_positions_stretched_over_it(name):
    detector, own = detector_of(name), SMALL[name][1]
    wide = Grid(frames=own.frames, rows=own.rows + 1, columns=2 * own.columns)
    boxes = torch.tensor([(0, 0.0, 0.0, 8.0, 8.0), (1, 20.0, 4.0, 30.0, 12.0)])
    logits = detector(patches_of(name, wide), boxes, wide)
    native = Detector(Encoder(SMALL[name][0], wide), 5)
    native.load_state_dict(detector.state_dict())
    native.encoder.positions = stretched(detector.encoder.positions, own, wide)
    assert torch.allclose(logits, native.eval()(patches_of(name, wide), boxes, wide), atol=1e-5)


def stretched(positions: torch.Tensor, own: Grid, wide: Grid) -> torch.Tensor:
    """torch's bicubic interpolation of each channel of each frame by itself."""
    out = torch.zeros(wide.frames, wide.rows, wide.columns, positions.shape[1])
    for frame, table in enumerate(positions.view(own.frames, own.rows, own.columns, -1)):
        for channel in range(positions.shape[1]):
            surface = table[None, None, :, :, channel]
            out[frame, ..., channel] = torch.nn.functional.interpolate(
                surface, (wide.rows, wide.columns), mode="bicubic", align_corners=False
            )[0, 0]
    return out.view(wide.num_tokens, -1)


def test_positions_of_other_frames_are_refused():
    detector = detector_of("videomae")
    longer = Grid(frames=3, rows=4, columns=4)
    with pytest.raises(ValueError, match="positions of 2 frames of tokens cannot become those of 3"):
        detector(patches_of("videomae", longer), torch.zeros(1, 5), longer)


def test_the_head_begins_small_and_drop_path_grows_with_depth():
    detector = Detector(Encoder(*SMALL["videomae"]), 5, drop_path=0.2, init_scale=0.001, generator=seeded(0))
    assert detector.head.weight.std().item() == pytest.approx(0.02 * 0.001, rel=0.2)
    assert [block.drop_path for block in detector.encoder.blocks] == pytest.approx([0, 0.1, 0.2])
