"""A pretraining to compare: ours and Hugging Face's on the same weights, the same clips and the same mask.

Both do the mathematics of the papers: kept patches through the encoder, all tokens through the decoder, mean
square error of the hidden patches' normalised pixels. Ours starts from uint8 clips, theirs from float32 ones
that were normalised beforehand, which is not timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mae_dist.config.geometry import Architecture, Grid
from mae_dist.config.optimisation import OptimConfig
from mae_dist.config.schema import InputConfig, TargetConfig
from mae_dist.train.param_groups import make_optimizer
from mae_dist.train.tasks import PretrainTask

OPTIM = OptimConfig(base_lr=1.5e-4, weight_decay=0.05)

Loss = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model at one input size."""

    architecture: Architecture
    frames: int
    side: int
    """Height and width in pixels."""

    @property
    def grid(self) -> Grid:
        """Tokens of one input."""
        return self.architecture.grid(frames=self.frames, height=self.side, width=self.side)

    @property
    def is_video(self) -> bool:
        """Whether the model is VideoMAE's, whose Hugging Face class and target differ."""
        return self.architecture.init == "videomae"

    @property
    def kept_per_frame(self) -> int:
        """As the papers mask: a quarter of an image's tokens, a tenth of a clip's places (rounded up)."""
        per_frame = self.grid.per_frame
        return per_frame - 9 * per_frame // 10 if self.is_video else per_frame // 4

    @property
    def num_kept(self) -> int:
        """Tokens that the encoder sees."""
        return self.grid.frames * self.kept_per_frame


def make_batch(case: Case, size: int, *, seed: int) -> dict[str, Tensor]:
    """clips uint8 (B, T, H, W, 3) and kept ids int64 (B, K), tubes through all frames."""
    rng = np.random.default_rng(seed)
    grid = case.grid
    kept = [np.sort(rng.permutation(grid.per_frame)[: case.kept_per_frame]) for _ in range(size)]
    starts = np.arange(grid.frames)[:, None] * grid.per_frame
    keep = np.stack([(starts + places).reshape(-1) for places in kept])
    clips = rng.integers(0, 256, (size, case.frames, case.side, case.side, 3), dtype=np.uint8)
    return {"clips": torch.from_numpy(clips), "keep": torch.from_numpy(keep)}


def our_task(case: Case) -> PretrainTask:
    """The module that `mae_dist` trains; equal weights at every call."""
    kind = "norm_pixel_videomae" if case.is_video else "norm_pixel_mae"
    torch.manual_seed(0)
    return PretrainTask(case.architecture, case.grid, InputConfig(), TargetConfig(kind=kind))


def our_optimizer(task: nn.Module, case: Case) -> torch.optim.Optimizer:
    """The one of a recipe: fused AdamW, vectors not decayed."""
    optimizer = make_optimizer(task, OPTIM, depth=case.architecture.encoder.depth)
    for group in optimizer.param_groups:
        group["lr"] = OPTIM.base_lr
    return optimizer


def their_model(case: Case, task: PretrainTask) -> nn.Module:
    """Hugging Face's model with the weights of `task`, and the attention that it takes by default."""
    from transformers import VideoMAEConfig, VideoMAEForPreTraining, ViTMAEConfig, ViTMAEForPreTraining

    from mae_dist.model.weights.dialects.huggingface import to_huggingface

    architecture, grid = case.architecture, case.grid
    encoder, decoder = architecture.encoder, architecture.decoder
    fields: dict[str, Any] = {
        "image_size": case.side,
        "patch_size": architecture.patch,
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "intermediate_size": 4 * encoder.width,
        "decoder_hidden_size": decoder.width,
        "decoder_num_hidden_layers": decoder.depth,
        "decoder_num_attention_heads": decoder.heads,
        "decoder_intermediate_size": 4 * decoder.width,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-6,
        "norm_pix_loss": True,
    }
    if case.is_video:
        fields |= {"num_frames": case.frames, "tubelet_size": architecture.tubelet, "use_mean_pooling": False}
        model: nn.Module = VideoMAEForPreTraining(VideoMAEConfig(**fields))
        # No field of their config reaches it.
        model.decoder.norm.eps = 1e-6
    else:
        model = ViTMAEForPreTraining(ViTMAEConfig(mask_ratio=0.75, **fields))
    ours = task.model.state_dict()
    states = [to_huggingface(ours, architecture, grid, dialect=dialect) for dialect in ("v5", "legacy")]
    # Names depend on the version of transformers.
    model.load_state_dict(next(state for state in states if state.keys() == model.state_dict().keys()))
    return model.train()


def their_inputs(case: Case, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What their model's forward takes: normalised float32 pixels, channels first, and the mask."""
    inputs = InputConfig()
    device = batch["clips"].device
    mean, std = (torch.tensor(values, device=device) for values in (inputs.mean, inputs.std))
    pixels = ((batch["clips"].float() / 255 - mean) / std).permute(0, 1, 4, 2, 3).contiguous()
    hidden = torch.ones(len(pixels), case.grid.num_tokens, device=device).scatter_(1, batch["keep"], 0.0)
    if case.is_video:
        return {"pixel_values": pixels, "bool_masked_pos": hidden.bool()}
    # They keep the quarter of the tokens whose noise is smallest.
    noise = hidden + torch.arange(case.grid.num_tokens, device=device) / 1000
    return {"pixel_values": pixels[:, 0], "noise": noise}


def train_step(loss_of: Loss, optimizer: torch.optim.Optimizer, dtype: torch.dtype | None) -> Tensor:
    """Forward in `dtype` (None: float32), backward, update; returns the loss."""
    device = optimizer.param_groups[0]["params"][0].device.type
    with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
        loss = loss_of()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()
