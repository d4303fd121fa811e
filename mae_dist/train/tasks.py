"""From a micro-batch to a loss: the one thing in which pretraining, fine-tuning and probing differ.

A batch arrives as uint8 on the device. Patches are cut and gathered while they are still bytes; only what the
encoder sees or the loss needs is ever converted to float.
Suffixes: B samples, T frames, H, W pixels, N tokens, K kept, P values of a patch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from mae_dist.config.geometry import Architecture, Grid
from mae_dist.config.schema import EvaluationConfig, InputConfig, TargetConfig
from mae_dist.data.keys import rng, seeded_globals
from mae_dist.model.classifier import Classifier, LinearProbe
from mae_dist.model.encoder import Encoder
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.patches import gather_tokens, hidden_ids, is_among, patchify
from mae_dist.model.targets import TARGETS, normalise, reconstruction_loss
from mae_dist.train.engine import Batch, StepOutput
from mae_dist.train.scores import count_answers, no_answers


class PatchInput(nn.Module):
    """uint8 clips to normalised patches, converting only the tokens asked for."""

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture, inputs: InputConfig) -> None:
        super().__init__()
        self._patch, self._tubelet = architecture.patch, architecture.tubelet
        self.register_buffer("mean", torch.tensor(inputs.mean), persistent=False)
        self.register_buffer("std", torch.tensor(inputs.std), persistent=False)

    def cut(self, clips_BTHWC: Tensor) -> Tensor:
        """(B, T, H, W, 3) to (B, N, P), dtype kept."""
        return patchify(clips_BTHWC, patch=self._patch, tubelet=self._tubelet)

    def normalise(self, pixels_BKP: Tensor) -> Tensor:
        """Pixels in [0, 1] to (x - mean) / std per channel, same shape."""
        return normalise(pixels_BKP, self.mean, self.std)


class PretrainTask(nn.Module):
    """Masked autoencoding: predict the hidden patches from the kept ones."""

    def __init__(
        self, architecture: Architecture, grid: Grid, inputs: InputConfig, target: TargetConfig
    ) -> None:
        super().__init__()
        self.model = MaskedAutoencoder(architecture, grid)
        self.pixels = PatchInput(architecture, inputs)
        self._target, self._loss = TARGETS[target.kind], target.loss

    def forward(self, batch: Batch) -> StepOutput:
        """Loss on hidden tokens only; needs clips (B, T, H, W, 3) uint8 and keep (B, K) int64.

        With predict (B, H) int64 the decoder predicts those, and of them the loss counts those not in keep.
        """
        patches_BNP = self.pixels.cut(batch["clips"])
        keep_BK = batch["keep"]
        is_dual = "predict" in batch
        hidden_BH = batch["predict"] if is_dual else hidden_ids(keep_BK, patches_BNP.shape[1])
        kept_BKP = self.pixels.normalise(gather_tokens(patches_BNP, keep_BK).float().div_(255))
        hidden_BHP = gather_tokens(patches_BNP, hidden_BH).float().div_(255)
        target_BHP = self._target(hidden_BHP, self.pixels.mean, self.pixels.std)
        prediction_BHP = self.model(kept_BKP, keep_BK, hidden_BH)
        is_hidden_BH = ~is_among(hidden_BH, keep_BK, patches_BNP.shape[1]) if is_dual else None
        loss = reconstruction_loss(prediction_BHP.float(), target_BHP, is_hidden_BH, kind=self._loss)
        return StepOutput(loss, {"loss": loss.detach()})


class ClassifyTask(nn.Module):
    """Fine-tuning and linear probing: a label for the whole, unmasked input."""

    def __init__(
        self,
        architecture: Architecture,
        grid: Grid,
        inputs: InputConfig,
        evaluation: EvaluationConfig,
        *,
        num_classes: int,
        seed: int,
    ) -> None:
        super().__init__()
        head = evaluation.head
        encoder = Encoder(architecture, grid)
        if evaluation.protocol == "linear_probe":
            self.model: LinearProbe | Classifier = LinearProbe(encoder, num_classes, pool=head.pool)
        else:
            self.model = Classifier(
                encoder,
                num_classes,
                pool=head.pool,
                drop_path=head.drop_path,
                dropout=head.dropout,
                init_scale=head.init_scale,
                trainable_blocks=evaluation.trainable_blocks,
            )
        self.pixels = PatchInput(architecture, inputs)
        self._num_classes = num_classes
        self._seed = seed
        self._smoothing = head.label_smoothing
        self._views = evaluation.views.count
        self._mixup: Any = None
        if head.mixup > 0 or head.cutmix > 0:
            # Imported here: timm brings torchvision and the compiler along, three seconds in every worker.
            from timm.data.mixup import Mixup

            self._mixup = Mixup(
                mixup_alpha=head.mixup,
                cutmix_alpha=head.cutmix,
                label_smoothing=head.label_smoothing,
                num_classes=num_classes,
            )

    def take_encoder(self, encoder: Encoder) -> None:
        """Start from these weights; a norm that the protocol replaced is left out."""
        own = self.model.encoder.state_dict()
        self.model.encoder.load_state_dict({name: encoder.state_dict()[name] for name in own})

    def logits(self, clips_BTHWC: Tensor) -> Tensor:
        """(B, num_classes) for clips with float pixels in [0, 1]."""
        return self.model(self.pixels.normalise(self.pixels.cut(clips_BTHWC)))

    def forward(self, batch: Batch) -> StepOutput:
        """Cross-entropy; needs clips (B, T, H, W, 3) uint8, label (B,) int64 and the block's number."""
        clips, labels = batch["clips"].float() / 255, batch["label"]
        if self._mixup is None:
            loss = F.cross_entropy(self.logits(clips).float(), labels, label_smoothing=self._smoothing)
        else:
            clips, soft_labels = self._mix(clips, labels, batch["block"])
            loss = F.cross_entropy(self.logits(clips).float(), soft_labels)
        return StepOutput(loss, {"loss": loss.detach()})

    def zero_score(self) -> dict[str, Tensor]:
        """What `score` gives for no rows at all."""
        return no_answers(self._num_classes, self.pixels.mean.device)

    def score(self, batch: Batch) -> dict[str, Tensor]:
        """Counts of right answers by class; the views of a sample stand side by side in the batch."""
        logits_BC = self.logits(batch["clips"].float() / 255).float()
        answers_SVC = logits_BC.softmax(dim=-1).unflatten(0, (-1, self._views))
        labels_S, counted_S = (batch[name][:: self._views] for name in ("label", "counted"))
        return count_answers(answers_SVC, labels_S, counted_S)

    def _mix(self, clips: Tensor, labels: Tensor, block: int) -> tuple[Tensor, Tensor]:
        frames = clips.shape[1]
        images = rearrange(clips, "b t h w c -> b (t c) h w")
        # timm draws from numpy's global state; keyed by block, the draw is the same at any world size.
        with seeded_globals(int(rng(self._seed, 0, block, "mixup").integers(2**32))):
            images, soft_labels = self._mixup(images, labels)
        return rearrange(images, "b (t c) h w -> b t h w c", t=frames), soft_labels
