"""From a micro-batch to a loss: the one thing in which pretraining, fine-tuning, probing, tokenizers differ.

A batch arrives as uint8 on the device. Patches are cut and gathered while they are still bytes; only what the
encoder sees or the loss needs is ever converted to float.
Suffixes: B samples, T frames, H, W pixels, N tokens, K kept, H predicted, P values of a patch, V of a target.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from mae_dist.config.geometry import Architecture, Grid
from mae_dist.config.schema import EvaluationConfig, InputConfig
from mae_dist.config.targets import TargetConfig
from mae_dist.config.tokenizers import TokenizerConfig
from mae_dist.data.keys import rng, seeded_globals
from mae_dist.model.classifier import Classifier, LinearProbe
from mae_dist.model.encoder import Encoder
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.patches import gather_tokens, patchify
from mae_dist.model.targets import TargetMaker, normalise
from mae_dist.model.tokenizer import TokenizerCard, as_images, tokenizer_of
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
    """Masked autoencoding: predict the hidden patches from the kept ones; `made` is as TargetMaker has it."""

    def __init__(
        self,
        architecture: Architecture,
        grid: Grid,
        inputs: InputConfig,
        target: TargetConfig,
        *,
        made: bytes | None = None,
    ) -> None:
        super().__init__()
        decoded = replace(architecture, predicted=target.num_values(architecture))
        self.model = MaskedAutoencoder(decoded, grid)
        self.pixels = PatchInput(architecture, inputs)
        self.target = TargetMaker(target, architecture, grid, made)

    def forward(self, batch: Batch) -> StepOutput:
        """Loss on hidden tokens only; needs clips (B, T, H, W, 3) uint8 and keep (B, K) int64.

        With predict (B, H) int64 the decoder predicts those, and of them the loss counts those not in keep.
        Clips have the frames of the target, of which the encoder may see a part.
        """
        clips, keep_BK = batch["clips"], batch["keep"]
        patches_BNP = self.pixels.cut(self.target.seen(clips))
        predict_BH, is_hidden_BH = self.target.places(keep_BK, batch.get("predict"), patches_BNP.shape[1])
        kept_BKP = self.pixels.normalise(gather_tokens(patches_BNP, keep_BK).float().div_(255))
        target_BHV = self.target(clips, patches_BNP, predict_BH, self.pixels.mean, self.pixels.std)
        prediction_BHV = self.model(kept_BKP, keep_BK, predict_BH)
        loss = self.target.loss(prediction_BHV, target_BHV, is_hidden_BH)
        return StepOutput(loss, {"loss": loss.detach()})


class TokenizerTask(nn.Module):
    """A discrete VAE: bring images back from one drawn code per patch."""

    mean: Tensor
    std: Tensor

    def __init__(self, card: TokenizerCard, config: TokenizerConfig) -> None:
        super().__init__()
        self.model = tokenizer_of(card)
        self.card = card
        self.register_buffer("mean", torch.tensor(card.mean), persistent=False)
        self.register_buffer("std", torch.tensor(card.std), persistent=False)
        self._config = config

    def temperature(self, num_samples: int) -> float:
        """Of the Gumbel softmax after so many crops: first * (last / first) ** (their share)."""
        first, last = self._config.temperature
        return first * (last / first) ** min(1.0, num_samples / self._config.anneal_samples)

    def forward(self, batch: Batch) -> StepOutput:
        """Squared error and divergence; needs clips (B, T, H, W, 3) uint8 and the block's number.

        Metrics: `error` of the normalised pixels, and `codes_used`, the number of codes that would be as
        uncertain if all were used alike, exp(entropy of their mean share), in this micro-batch.
        """
        clips = batch["clips"]
        images = as_images(clips, self.mean, self.std)
        restored, logits = self.model(images, temperature=self.temperature(batch["block"] * len(clips)))
        error = F.mse_loss(restored.float(), images)
        log_shares = logits.log_softmax(1)
        # From all codes alike: sum of p * (log p + log V).
        divergence = (log_shares.exp() * log_shares).sum(1).mean() + math.log(logits.shape[1])
        used = log_shares.detach().exp().mean((0, 2, 3))
        metrics = {"error": error.detach(), "codes_used": torch.special.entr(used).sum().exp()}
        loss = error + self._config.kl_weight * divergence
        return StepOutput(loss, {"loss": loss.detach(), **metrics})


Pretraining = PretrainTask | TokenizerTask
"""What is trained without labels, and exported."""


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
