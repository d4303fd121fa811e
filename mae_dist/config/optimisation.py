"""How a model is optimised: the schedule's numbers, the batches, and the engine that does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from mae_dist.config.duration import Duration
from mae_dist.config.quantities import Count, Length, Positive, Workers
from mae_dist.config.workers import WorkerRange


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """The optimiser and its schedule: linear warm-up from 0, then half a cosine down to min_lr, per step."""

    kind: Literal["adamw", "lars", "sgd"] = "adamw"
    base_lr: float
    """Learning rate for a global batch of 256; the peak used is base_lr * global_batch / 256."""
    min_lr: float = 0.0
    """Floor of the cosine, as given (never scaled)."""
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = 0.9
    """LARS and SGD only."""
    weight_decay: float = 0.05
    """Not applied to biases and other one-dimensional parameters."""
    layer_decay: float | None = None
    """Learning rate factor per layer from the head down (fine-tuning); null means none."""
    clip_grad_norm: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One optimisation: how long, in which batches, with which optimiser."""

    length: Length
    warmup: Length = Duration(0, "steps")
    global_batch: Positive
    """Crops per optimiser update over all workers: workers * micro_batch * accumulation."""
    micro_batch: Positive
    """Crops per worker and forward pass. The stream's blocks are exactly this long."""
    repeats: Positive = 1
    """Crops of one decoded sample, each with draws and a mask of its own (repeated sampling). They stand side
    by side in a micro-batch and count like samples in batches, in the learning rate and in epochs, so that
    every sample is decoded once in `repeats` epochs."""
    optim: OptimConfig
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of matrix products; weights and their updates are always fp32. auto: bf16 where the device is a GPU
    that has it, else fp32. fp16 scales the loss and skips an update whose gradient overflows."""
    ema: float | None = None
    """Share of itself that a moving average of the weights keeps in every update, as 0.9999; the averaged
    weights are then those that are exported and evaluated. Null means no average."""
    activation_checkpointing: bool = False
    """Compute what is inside a transformer block again in the backward pass instead of keeping it: the same
    gradients in less memory, for about a third more time."""
    compile: bool = False
    """Compile the model with torch.compile, which takes minutes once for each shape and is then kept on disk;
    results agree to rounding. On CPUs it needs a C++ compiler."""

    @property
    def peak_lr(self) -> float:
        """base_lr * global_batch / 256 (linear scaling rule, arXiv 1706.02677).

        Repeated crops count in global_batch. Code that counts decoded samples instead (MAE-ST, VideoMAE v2)
        names a batch, a learning rate for it and epochs: take its batch and its epochs times `repeats`, and
        its base_lr divided by `repeats`.
        """
        return self.optim.base_lr * self.global_batch / 256


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourcesConfig:
    """What a training step asks of the cluster, and which engine drives the optimiser."""

    workers: Workers = WorkerRange(1, 1)
    """Ranks that pretrain together. As [least, most], like [2, 8], the pretraining begins as soon as there is
    room for the least, goes on with fewer workers when nodes go and with more when they come back: always the
    most that fit and divide the global batch, which stays the same by accumulation."""
    resize_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Between two looks whether there is room for more workers, where `workers` is a range. Whatever the
    training has reached is saved before it begins again with more."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """auto: GPUs if the cluster has any, else CPUs."""
    cpus_per_worker: float = 1.0
    engine: Literal["deepspeed", "torch"] = "deepspeed"
    """torch is the plain reference: the same losses without ZeRO."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """What DeepSpeed spreads over the workers: 1 the optimiser's state, 2 gradients too, 3 weights too; 0 is
    the torch engine. All train the same losses, and each goes on from checkpoints of the others."""
    offload: Literal["none", "optimizer", "parameters"] = "none"
    """What DeepSpeed keeps in the memory of the host: the optimiser's state, which is then updated there, or
    with zero_stage 3 the weights too."""
    peak_tflops: Annotated[float, Field(gt=0)] | None = None
    """What one worker's device can do at most, in 10^12 dense operations per second at the precision used,
    so that the log can say which share of it the model needs (MFU). Null: the data sheet's value for common
    GPUs, and no share for others."""
    max_failures: Count = 3
    """Worker groups that may fail without a new checkpoint between them before the step counts as failed.
    Changes of size are no failures."""
