"""Action detection: the task, and the judgement of every person in the test.

Letters: m clips of a micro-batch, T frames, H, W pixels, P places for boxes in a clip, R boxes of the
micro-batch, A actions.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mae_dist import storage
from mae_dist.config.geometry import Architecture, Grid
from mae_dist.config.schema import EvaluationConfig, InputConfig
from mae_dist.model.detector import Detector
from mae_dist.model.encoder import Encoder
from mae_dist.train.engine import Batch, StepOutput
from mae_dist.train.tasks import PatchInput

Judgements = dict[str, np.ndarray]
"""sample int64 (R,); place int64 (R,), of the box in its sample; probability float32 (R, A), by action."""


class DetectTask(nn.Module):
    """What each person does, of actions that do not exclude each other."""

    def __init__(
        self,
        architecture: Architecture,
        grid: Grid,
        inputs: InputConfig,
        evaluation: EvaluationConfig,
        *,
        num_actions: int,
    ) -> None:
        super().__init__()
        head = evaluation.head
        self.model = Detector(
            Encoder(architecture, grid),
            num_actions,
            drop_path=head.drop_path,
            dropout=head.dropout,
            init_scale=head.init_scale,
        )
        self.pixels = PatchInput(architecture, inputs)
        self._architecture = architecture

    def take_encoder(self, encoder: Encoder) -> None:
        """Start from these weights."""
        self.model.encoder.load_state_dict(encoder.state_dict())

    def logits(self, clips_mTHWC: Tensor, boxes_R5: Tensor) -> Tensor:
        """(R, A) for uint8 clips of any height and width in patches; boxes as the Detector takes them."""
        frames, height, width = clips_mTHWC.shape[1:4]
        grid = self._architecture.grid(frames=frames, height=height, width=width)
        patches_mNP = self.pixels.cut(clips_mTHWC).float() / 255
        return self.model(self.pixels.normalise(patches_mNP), boxes_R5, grid)

    def forward(self, batch: Batch) -> StepOutput:
        """Binary cross-entropy, mean over actions and summed over the people, by clip.

        Every person counts the same, however many there are in a clip: the authors' code sums over the people
        of a micro-batch, which is this times its clips. Needs clips (m, T, H, W, 3) uint8, boxes (m, P, 4),
        is_box (m, P) and actions (m, P, A).
        """
        is_box_mP = batch["is_box"]
        logits_RA = self.logits(batch["clips"], flat_boxes(batch["boxes"], is_box_mP)).float()
        does_RA = batch["actions"][is_box_mP].float()
        each_RA = F.binary_cross_entropy_with_logits(logits_RA, does_RA, reduction="none")
        loss = each_RA.sum() / (each_RA.shape[1] * len(is_box_mP))
        return StepOutput(loss, {"loss": loss.detach()})

    def judge(self, batch: Batch) -> Judgements:
        """The people in the clips that count. `shown` says what of each clip is picture; clips of one size in
        whole patches go through the model together, and what is left of the picture at its edges does not."""
        patch = self._architecture.patch
        size_m2 = np.maximum(batch["shown"] // patch, 1) * patch
        counted_m = batch["counted"].cpu().numpy() & batch["is_box"].any(1).cpu().numpy()
        found = [self.nobody()]
        for height, width in np.unique(size_m2[counted_m], axis=0).tolist():
            [views] = np.nonzero(counted_m & (size_m2 == (height, width)).all(axis=1))
            rows = torch.from_numpy(views).to(batch["clips"].device)
            is_box = batch["is_box"][rows]
            clips = batch["clips"][rows, :, :height, :width]
            logits_RA = self.logits(clips, flat_boxes(batch["boxes"][rows], is_box))
            view_R, place_R = (ids.cpu().numpy() for ids in is_box.nonzero(as_tuple=True))
            found.append(
                {
                    "sample": batch["sample"][views][view_R],
                    "place": place_R,
                    "probability": logits_RA.float().sigmoid().cpu().numpy(),
                }
            )
        return joined(found)

    def nobody(self) -> Judgements:
        """What `judge` gives where there is nobody to judge."""
        return {
            "sample": np.empty(0, np.int64),
            "place": np.empty(0, np.int64),
            "probability": np.empty((0, self.model.head.out_features), np.float32),
        }


def flat_boxes(boxes_mP4: Tensor, is_box_mP: Tensor) -> Tensor:
    """The boxes of all clips with the number of their clip in front, (R, 5), clip by clip."""
    clip_R, _ = is_box_mP.nonzero(as_tuple=True)
    return torch.cat([clip_R[:, None].to(boxes_mP4.dtype), boxes_mP4[is_box_mP]], dim=1)


def joined(parts: Iterable[Judgements]) -> Judgements:
    """Several judgements as one, in order."""
    parts = list(parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def judge_test(task: DetectTask, batches: Iterable[dict[str, Any]], *, output: str, rank: int) -> None:
    """Judge everybody in this rank's share of the test and write it beside those of the other ranks."""
    task.eval()
    file = io.BytesIO()
    judged = joined([task.nobody(), *(task.judge(batch) for batch in batches)])
    np.savez_compressed(
        file, sample=judged["sample"], place=judged["place"], probability=judged["probability"]
    )
    storage.write_bytes(judgement_file(output, rank), file.getvalue())


def read_judgements(output: str, *, world: int) -> Judgements:
    """What `judge_test` of all ranks has written."""
    parts = []
    for rank in range(world):
        with np.load(io.BytesIO(storage.read_bytes(judgement_file(output, rank)))) as arrays:
            parts.append(dict(arrays))
    return joined(parts)


def judgement_file(output: str, rank: int) -> str:
    """Where a rank's judgements lie."""
    return storage.join(output, "judged", f"rank-{rank:05d}.npz")
