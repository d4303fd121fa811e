"""What the people in a clip do: an encoder, and a head that looks at each person's box.

    tokens, normed -> (B, D, t, h, w) -> mean over t -> RoIAlign of each box -> maximum -> linear

As in VideoMAE's action detection. Letters: B clips, N tokens of the grid, P values of one patch, D width, R
boxes of all clips together.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from mae_dist.config.geometry import Grid
from mae_dist.model.classifier import fresh_head, grow_drop_path
from mae_dist.model.encoder import Encoder
from mae_dist.model.positions import interpolated

ROI_SIDE = 7
"""Cells along each side of a box."""


class Detector(nn.Module):
    """(B, N, P) normalised patches and R boxes -> (R, num_actions) logits.

    The encoder keeps its norm; positions for another grid than its own are interpolated, as in the authors'
    code. See `Classifier` for `drop_path`, `dropout` and `init_scale`.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_actions: int,
        *,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init_scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        grow_drop_path(encoder, drop_path)
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = fresh_head(encoder.width, num_actions, std=0.02, generator=generator)
        with torch.no_grad():
            self.head.weight.mul_(init_scale)

    def forward(self, patches_BNP: Tensor, boxes_R5: Tensor, grid: Grid) -> Tensor:
        """Boxes are rows of clip number, x1, y1, x2, y2, in pixels of a clip of this grid; R may be 0."""
        positions = None
        if grid != self.encoder.grid:
            positions = interpolated(self.encoder.positions, self.encoder.grid, grid)
        tokens = self.encoder(patches_BNP, positions=positions)[:, self.encoder.num_extra_tokens :]
        maps = rearrange(tokens, "b (t h w) d -> b d t h w", t=grid.frames, h=grid.rows, w=grid.columns).mean(
            2
        )
        pooled_RD = box_features(maps, boxes_R5, patch=self.encoder.architecture.patch)
        return self.head(self.dropout(pooled_RD))


def box_features(maps_BDhw: Tensor, boxes_R5: Tensor, *, patch: int) -> Tensor:
    """The maximum over 7 x 7 cells of each box, (R, D); boxes in pixels, `patch` of them to a place.

    Each cell is the mean of bilinear samples about one place apart. As in the first RoIAlign (arXiv
    1703.06870), and so in the authors' code, pixel 0 lies on the middle of place 0, and a box is at least one
    place wide and high.
    """
    # Imported here: torchvision takes a second, and everything else does without.
    from torchvision.ops import roi_align

    cells = roi_align(
        maps_BDhw.float(),
        boxes_R5.float(),
        output_size=ROI_SIDE,
        spatial_scale=1 / patch,
        sampling_ratio=0,
        aligned=False,
    )
    return cells.amax((2, 3)).to(maps_BDhw.dtype)
