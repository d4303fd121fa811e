"""What a run is: every knob, its type, its default and its meaning.

One `RunConfig` describes a pretraining and the evaluations that follow it. All classes are frozen; a number
that follows from others is a property with its formula. `load.py` reads recipes into these classes and
`contradictions.py` checks what concerns several fields at once; `lint/` looks for what is allowed and yet
not what the papers did.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field

from mae_dist.config import masks
from mae_dist.config.detection import DetectionConfig
from mae_dist.config.geometry import Architecture, Grid, SizeName, architecture
from mae_dist.config.jobs import Checkpoints, JobsConfig
from mae_dist.config.limits import DecodeLimits
from mae_dist.config.masks import MaskKind, PredictKind, Rounding
from mae_dist.config.optimisation import ResourcesConfig, TrainConfig
from mae_dist.config.probing import FROZEN_PROTOCOLS, AttentiveConfig, FeaturesConfig, HeadsConfig, KnnConfig
from mae_dist.config.quantities import Count, Positive, Share
from mae_dist.config.resilience import CheckpointConfig, GuardConfig, WatchConfig
from mae_dist.config.starts import StartConfig
from mae_dist.config.targets import TargetConfig
from mae_dist.config.testing import PublishedResult, RobustnessConfig, ViewsConfig
from mae_dist.config.tokenizers import TokenizerConfig
from mae_dist.config.workers import WorkerRange


@dataclass(frozen=True, kw_only=True, slots=True)
class InputConfig:
    """The pixels of one sample: (frames, height, width, channels). An image is a clip of one frame."""

    frames: Positive = 1
    frame_stride: Positive = 1
    """Distance between two frames of the clip, in frames of the video."""
    sample_fps: Annotated[float, Field(gt=0)] | None = None
    """Frames of the clip per second of the video, whatever the video's own rate; replaces frame_stride."""
    sampling: Literal["dense", "uniform"] = "dense"
    """dense: a window of the video (Kinetics). uniform: one frame from each of `frames` equal parts of the
    whole video (TSN; Something-Something)."""
    height: Positive = 224
    width: Positive = 224
    channels: Positive = 3
    """Of a pixel. 3: RGB. 1: grey, its brightness. Others are those of the file: arrays (.npy), or 4 RGBA."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Per-channel mean of pixels in [0, 1], subtracted on the device. Default: ImageNet."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The masked autoencoder, by name; see `mae-dist sizes`."""

    size: SizeName
    decoder_depth: Positive | None = None
    """Blocks in the decoder; null means as the named size has it."""
    decoder_width: Positive | None = None
    tubelet: Positive | None = None
    """Frames that one patch spans; null means as the named size has it."""
    encoder_mask_token: bool = False
    """Whether the encoder sees mask tokens in place of hidden patches, which MAE does without (table 1c)."""
    cross_decoder: bool = False
    """Whether hidden tokens look at the encoder's and not at each other (CrossMAE, arXiv 2401.14391)."""

    @property
    def architecture(self) -> Architecture:
        """The named size with what else is asked for."""
        return architecture(
            self.size,
            decoder_depth=self.decoder_depth,
            decoder_width=self.decoder_width,
            tubelet=self.tubelet,
            encoder_mask_token=self.encoder_mask_token,
            cross_decoder=self.cross_decoder,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskConfig:
    """Which tokens are hidden from the encoder."""

    kind: MaskKind = "random"
    """random: any token (MAE). block: blocks of patches. grid: all but one patch of each cell. tube: the same
    places in every frame (VideoMAE). multi_block: large blocks, the same in every frame (V-JEPA). frame:
    whole frames of tokens. causal: all but the first frames."""
    ratio: float = 0.75
    """Fraction of tokens hidden, strictly between 0 and 1."""
    rounding: Rounding | None = None
    """kept: int(n * (1 - ratio)) of the n tokens, places or frames are kept (MAE, mae_st). hidden: int(n *
    ratio) are hidden (VideoMAE). null: as the paper of this kind does."""
    predict: PredictKind = "all"
    """What the decoder predicts. all: whatever is hidden. hidden: any part of that (CrossMAE). running_cell:
    the part of each 2 x 2 cell whose turn it is (VideoMAE V2's dual masking). random, frame: any tokens, or
    frames of them. Only what is hidden counts for the loss."""
    predict_ratio: float = 0.5
    """Fraction of all tokens that the decoder leaves out, or of those that are hidden; nothing with all."""

    def __post_init__(self) -> None:
        for name in ("ratio", "predict_ratio"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie strictly between 0 and 1, got {getattr(self, name)}")

    def num_kept(self, grid: Grid) -> int:
        """Tokens that the encoder sees of every sample."""
        return masks.num_kept(self.kind, grid, self.ratio, self.rounding)

    def num_predicted(self, grid: Grid) -> int | None:
        """Tokens that the decoder predicts of every sample; None: those that are hidden."""
        kept = self.num_kept(grid)
        return masks.num_predicted(self.predict, grid, self.predict_ratio, num_kept=kept)


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultBudget:
    """How many samples may turn out unreadable before a run stops."""

    share: Share = 0.01
    """Of the samples seen so far ..."""
    at_least: Count = 10
    """... but this many are always allowed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """One source of a mixed stream, by a name of your choice; give `data.mix` in place of `data.catalog`.

    Every source gives its share of each batch and is gone through without replacement at its own pace,
    however many samples it has. One epoch of a mix is as many samples as all its sources have together: in
    it a source of n samples is gone through share * (all samples) / n times. Images may stand beside videos,
    as clips that stand still; for pretraining, classes may differ.
    """

    catalog: str
    """As data.catalog."""
    weight: Annotated[float, Field(gt=0)]
    """Its share of the samples is weight / sum of all weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Where samples come from.

    A catalog is a Parquet file made by `mae-dist catalog build`; a folder of images or videos, of Parquet or
    tar shards, or a CSV list may be named instead and is then catalogued as the run's first step.
    """

    catalog: str | None = None
    """Training samples: a path or an s3:// URI. Required, unless `mix` names several."""
    mix: dict[str, SourceConfig] = field(default_factory=dict)
    """Training samples from several catalogs, by name."""
    labelled: str | None = None
    """The source of a mix whose samples evaluations train on; null means all of them, which must then have
    the same classes."""
    test_catalog: str | None = None
    """Samples for evaluations and the reconstruction gallery; null means none."""
    cpus_per_task: float = 1.0
    """Logical CPUs that Ray reserves for one decode task."""
    decoder: Literal["pyav", "torchcodec"] = "pyav"
    """What decodes videos. torchcodec is an extra and needs FFmpeg's shared libraries; it gives the same
    pixels, but of fewer files, and takes longer per clip."""
    decode_resource: str | None = None
    """Custom Ray resource of the nodes that may decode, of which a task takes cpus_per_task; null means every
    node with a free CPU. The files in cluster/ and docker/ call it "decode"."""
    prefetch_batches: Positive = 2
    """Micro-batches held ready per worker."""
    fault_budget: FaultBudget = field(default_factory=FaultBudget)
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    @property
    def sources(self) -> dict[str, str]:
        """What is trained on, by field: "catalog", or "mix.NAME.catalog" of every source by name."""
        if self.catalog is not None:
            return {"catalog": self.catalog}
        return {f"mix.{name}.catalog": self.mix[name].catalog for name in sorted(self.mix)}


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """How a decoded image or clip becomes training pixels; every draw is keyed by (seed, epoch, sample)."""

    crop: Literal["random_resized", "multi_scale", "anywhere", "center"] = "random_resized"
    """random_resized: area in `scale`, aspect in 3/4..4/3 (MAE). multi_scale: VideoMAE's corner-and-centre
    crops at 1, .875, .75, .66 of the short side. anywhere: the target's shape, with a side in `side`, at any
    place (action detection). center: the largest centred crop of the target's shape."""
    scale: tuple[float, float] = (0.2, 1.0)
    """Area of a random_resized crop as a fraction of the source."""
    side: tuple[float, float] = (0.875, 0.875)
    """Side of an `anywhere` crop as a fraction of the largest one that fits; .875 is 224 of 256 pixels."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    """Resampling filter, antialiased, as Pillow defines it (bicubic: a = -0.5). A JPEG whose crop is at least
    twice the input in both directions is scaled by 1/2, 1/4 or 1/8 while it is decoded, and then by the
    filter; `data/jpeg.py` says how many levels that changes."""
    flip: bool = True
    """Mirror half of the samples. Off where left and right are labels (Something-Something)."""
    rand_augment: str | None = None
    """timm's RandAugment string, for example rand-m9-mstd0.5-inc1; null: none. One draw for all frames."""
    color_jitter: tuple[float, float, float] | None = None
    """Largest shift of hue in degrees, and of saturation and value in parts of their range; null: none. One
    draw for all frames."""
    erasing: Share = 0.0
    """Probability of random erasing (fine-tuning)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """What a run writes while it trains."""

    every: Positive = 20
    """Steps between two lines of metrics."""
    data_wait_warning: Share = 0.05
    """Say what holds the data back when the device waits for it more than this share of the time."""
    ledger: bool = False
    """Write the sample ids and pixel digests of every micro-batch to ledger/ in the run directory."""
    mlflow: str | None = None
    """MLflow server (http://..., or what else MLflow takes) that is told the numbers of the report; needs the
    extra mae_dist[mlflow]. Null: none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConfig:
    """The classifier on top of the encoder and its regularisation."""

    pool: Literal["mean", "class_token"] = "mean"
    drop_path: Share = 0.0
    dropout: Share = 0.0
    label_smoothing: Share = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    init_scale: float = 1.0
    """Factor on the freshly drawn head weights (VideoMAE uses 0.001)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """One protocol that says what the encoder is worth. It runs once per entry of `start_from`."""

    protocol: Literal["linear_probe", "finetune", "detect", "feature_probe", "attentive_probe", "knn"]
    """linear_probe, finetune and detect train on the stream of samples, as `train` says; detect trains all
    weights to tell what the people in boxes do (catalogs of --kind ava). The others learn from features that
    are extracted once: feature_probe many linear heads, attentive_probe poolers of tokens, knn nothing."""
    start_from: tuple[Literal["pretrained", "random"], ...] = ("pretrained", "random")
    """random is the baseline: the same evaluation without pretraining."""
    baseline: str | None = None
    """Another evaluation that starts from random weights, which this one is compared with instead of itself:
    training from scratch has a recipe of its own (MAE, table 11)."""
    checkpoints: Checkpoints = ("last",)
    """Checkpoints of the pretraining that it is run on: "last", the final weights, and besides "every 20
    epochs" (or steps) those kept by checkpoint.keep_every, while the pretraining goes on. That is done on
    what is spare: no other step waits for it."""
    sampling: Literal["dense", "uniform"] | None = None
    """How frames are chosen in this evaluation, as input.sampling says; null means as there. VideoMAE
    pretrains on windows of Something-Something and fine-tunes on the whole of its videos."""
    labels_per_class: Positive | None = None
    """Train on so many labelled samples per class, the first in the catalog's order; null means all."""
    trainable_blocks: Annotated[float, Field(ge=0)] | None = None
    """Fine-tune only the last so many blocks of the encoder, and what is behind them; the rest stays. 0.5 is
    the MLP of the last block, 1 the block, 1.5 also the MLP of the one below, 0 the head alone (MAE, figure
    9). Null trains everything, the patch embedding too."""
    train: TrainConfig | None = field(default=None, metadata={"needed_unless": FROZEN_PROTOCOLS})
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    attentive: AttentiveConfig = field(default_factory=AttentiveConfig)
    knn: KnnConfig = field(default_factory=KnnConfig)
    eval_batch: Positive = 64
    """Views per worker and forward pass of a test."""
    views: ViewsConfig = field(default_factory=ViewsConfig)
    robustness: dict[str, RobustnessConfig] = field(default_factory=dict)
    """Other test sets for the fine-tuned weights, by name; each is scored in a step of its own."""
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    workers: Positive | None = None
    """Null means resources.workers, of a range the least. Fewer leave room for more evaluations side by
    side."""
    published: PublishedResult | None = None

    @property
    def training(self) -> TrainConfig:
        """`train` of a protocol that has one."""
        assert self.train is not None
        return self.train


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """A pretraining and what follows it."""

    name: str
    seed: Count = 0
    weights: str | None = None
    """Weights to evaluate instead of pretraining some: a run directory, or a file that a run exported or
    `mae-dist weights convert` wrote. The recipe's `train` and `augment` then do nothing, `mask` and `target`
    serve the reconstruction, which there is none of where the weights have no decoder."""
    storage: str = "runs"
    """Folder or s3:// prefix that holds run directories."""
    input: InputConfig
    model: ModelConfig
    mask: MaskConfig
    target: TargetConfig = field(default_factory=TargetConfig)
    tokenizer: TokenizerConfig | None = None
    data: DataConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    start: StartConfig = field(default_factory=StartConfig)
    train: TrainConfig
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    jobs: JobsConfig = field(default_factory=JobsConfig)
    log: LogConfig = field(default_factory=LogConfig)
    gallery_samples: Count = 6
    """Held-out samples whose reconstructions the report shows."""
    evaluations: dict[str, EvaluationConfig] = field(default_factory=dict)

    def input_for(self, evaluation: EvaluationConfig) -> InputConfig:
        """The pixels that a sample becomes in this evaluation."""
        return replace(self.input, sampling=evaluation.sampling or self.input.sampling)

    def workers_for(self, evaluation: EvaluationConfig | None) -> WorkerRange:
        """Ranks that train together in this evaluation; None: in the pretraining.

        An evaluation never changes its size: it is short, and others want to stand beside it.
        """
        if evaluation is None:
            return self.resources.workers
        workers = evaluation.workers or self.resources.workers.least
        return WorkerRange(workers, workers)

    @property
    def grid(self) -> Grid:
        """Token grid of the input; raises ValueError where the patch does not divide it."""
        return self.model.architecture.grid(
            frames=self.input.frames, height=self.input.height, width=self.input.width
        )

    @property
    def architecture(self) -> Architecture:
        """The model's, for pixels of this input."""
        return replace(self.model.architecture, channels=self.input.channels)
