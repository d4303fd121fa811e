"""One training as plain data: what is optimised, from which weights, on which samples, into which folder."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mae_dist import storage
from mae_dist.config.geometry import Architecture
from mae_dist.config.optimisation import TrainConfig
from mae_dist.config.schema import EvaluationConfig, InputConfig, RunConfig
from mae_dist.config.workers import WorkerRange, worker_counts
from mae_dist.data.batch import StreamSpec
from mae_dist.data.boxes import BoxSpec
from mae_dist.data.catalog import Catalog
from mae_dist.data.mix import Samples, load_samples
from mae_dist.data.people import excluded_of, judged_keyframes, people_of
from mae_dist.model.operations import (
    forward_multiply_adds,
    partial_training_operations,
    training_operations,
)
from mae_dist.model.tokenizer import TokenizerCard, multiply_adds
from mae_dist.storage.fence import Fence
from mae_dist.train.loop import Pace
from mae_dist.train.schedule import Schedule, schedule_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """A pretraining (evaluation None) or the training of one evaluation."""

    config: RunConfig
    output: str
    """Folder for metrics, checkpoints and the export."""
    catalog: str
    """Catalog file to train on, or the mix.json of several."""
    evaluation: str | None = None
    """Key in config.evaluations."""
    test_catalog: str | None = None
    """Catalog file to score on afterwards; evaluations need one."""
    weights: str | None = None
    """Exported masked autoencoder whose encoder to start from; None is a random initialisation."""
    target_file: str | None = None
    """What the target of a pretraining is made with, where something has to be made first."""
    fence: Fence | None = None
    """The driver's right to write here; a checkpoint is published only while it holds."""

    @property
    def protocol(self) -> EvaluationConfig | None:
        """The evaluation's config, None for pretraining."""
        return None if self.evaluation is None else self.config.evaluations[self.evaluation]

    @property
    def train(self) -> TrainConfig:
        """Length, batches and optimiser of this training."""
        return self.config.train if self.protocol is None else self.protocol.training

    @property
    def workers(self) -> WorkerRange:
        """Ranks that train together."""
        return self.config.workers_for(self.protocol)

    @property
    def uses_zero(self) -> bool:
        """Whether DeepSpeed drives the optimiser, rather than plain torch.

        A probe trains one small layer, and LARS needs the norms of whole parameters, which a ZeRO partition
        cuts.
        """
        resources, protocol = self.config.resources, self.protocol
        is_probe = protocol is not None and protocol.protocol == "linear_probe"
        return resources.engine == "deepspeed" and resources.zero_stage > 0 and not is_probe

    @property
    def world_sizes(self) -> list[int]:
        """The numbers of workers that are allowed and divide the global batch."""
        allowed, train = self.workers, self.train
        counts = worker_counts(global_batch=train.global_batch, micro_batch=train.micro_batch)
        return [count for count in counts if allowed.least <= count <= allowed.most]

    @property
    def checkpoints(self) -> str:
        """Folder of the checkpoints."""
        return storage.join(self.output, "checkpoints")

    @property
    def stacks(self) -> str:
        """Folder of the stacks of workers that stood still."""
        return storage.join(self.output, "stacks")

    @property
    def export(self) -> str:
        """The weights when training is done."""
        return storage.join(self.output, "export", "model.safetensors")

    def training_samples(self) -> Samples:
        """The catalog or mix, or the labelled part of a catalog that the protocol allows."""
        few = None if self.protocol is None else self.protocol.labels_per_class
        return load_samples(self.catalog) if few is None else Catalog.load(self.catalog).subset(few)

    def test_samples(self) -> Catalog:
        """What is scored on: the test catalog, or of its videos the keyframes with people to be judged."""
        assert self.test_catalog is not None
        catalog, protocol = Catalog.load(self.test_catalog), self.protocol
        if protocol is None or protocol.protocol != "detect":
            return catalog
        detection = protocol.detection
        return judged_keyframes(catalog, people_of(catalog, detection), excluded_of(detection))

    @property
    def architecture(self) -> Architecture:
        """The model with a decoder that predicts what the target says."""
        its = self.config.architecture
        return replace(its, predicted=self.config.target.num_values(its))

    @property
    def tokenizer_card(self) -> TokenizerCard:
        """What a training of a tokenizer makes."""
        config = self.config
        assert config.tokenizer is not None
        return TokenizerCard(
            vocabulary=config.tokenizer.vocabulary,
            width=config.tokenizer.width,
            blocks=config.tokenizer.blocks,
            patch=config.model.architecture.patch,
            mean=config.input.mean,
            std=config.input.std,
        )

    def stream(self) -> StreamSpec:
        """The training stream: shuffled and augmented, masked if this is a pretraining."""
        config, protocol = self.config, self.protocol
        boxes = None
        if protocol is not None and protocol.protocol == "detect":
            boxes = BoxSpec(jitter=protocol.detection.jitter)
        return StreamSpec(
            seed=config.seed,
            micro_batch=self.train.micro_batch,
            input=self._pretraining_input() if protocol is None else config.input_for(protocol),
            augment=config.augment if protocol is None else protocol.augment,
            mask=config.mask if protocol is None and config.tokenizer is None else None,
            grid=config.grid,
            train=True,
            repeats=self.train.repeats,
            boxes=boxes,
            decoder=config.data.decoder,
            limits=config.data.limits,
        )

    def _pretraining_input(self) -> InputConfig:
        """All frames that are seen or predicted."""
        size = self.config.input
        if self.config.target.frames != "double":
            return size
        # Every other one of these frames is one that would be drawn without the others: the span is the same.
        faster = None if size.sample_fps is None else 2 * size.sample_fps
        stride = max(1, size.frame_stride // 2)
        return replace(size, frames=2 * size.frames, frame_stride=stride, sample_fps=faster)

    def test_stream(self) -> StreamSpec:
        """The test stream: every view of every sample once; whole frames with their boxes in detection."""
        protocol = self.protocol
        assert protocol is not None
        stream = replace(self.stream(), micro_batch=protocol.eval_batch, train=False, test=protocol.views)
        if stream.boxes is None:
            return stream
        its = protocol.detection
        canvas = replace(stream.input, height=its.test_height, width=its.test_width)
        return replace(stream, input=canvas, whole=True, boxes=BoxSpec(growth=its.growth))

    def schedule(self, catalog: Samples) -> Schedule:
        """Learning rates over the whole training."""
        return schedule_of(self.train, samples_per_epoch=catalog.num_samples)

    def pace(self, catalog: Samples, *, world: int) -> Pace:
        """Steps, micro-batches and intervals at this number of workers.

        Raises ValueError if the workers cannot divide the global batch.
        """
        train, config = self.train, self.config
        accumulation, rest = divmod(train.global_batch, train.micro_batch * world)
        if rest:
            raise ValueError(
                f"{world} workers with micro_batch {train.micro_batch} cannot make a global_batch of "
                f"{train.global_batch}: it must be a multiple of {train.micro_batch * world}"
            )
        return Pace(
            global_batch=train.global_batch,
            accumulation=accumulation,
            samples_per_epoch=catalog.num_samples,
            repeats=train.repeats,
            log_every=config.log.every,
            checkpoint_every=max(
                1,
                config.checkpoint.every.steps(
                    samples_per_epoch=catalog.num_samples, global_batch=train.global_batch
                ),
            ),
        )

    def operations(self, *, num_classes: int) -> int:
        """Of one sample in a training step, as they are needed (see model/operations.py)."""
        config, protocol = self.config, self.protocol
        architecture, grid = self.architecture, config.grid
        if protocol is not None and protocol.trainable_blocks is not None:
            return partial_training_operations(
                architecture, grid, num_classes=num_classes, trainable_blocks=protocol.trainable_blocks
            )
        if protocol is not None:
            forward = forward_multiply_adds(architecture, grid, num_classes=num_classes)
            return training_operations(forward, is_encoder_frozen=protocol.protocol == "linear_probe")
        if config.tokenizer is not None:
            return 2 * 3 * config.input.frames * multiply_adds(self.tokenizer_card, grid.per_frame)
        is_centre = config.target.frames == "centre"
        forward = forward_multiply_adds(
            architecture,
            grid,
            num_kept=config.mask.num_kept(grid),
            num_predicted=grid.per_frame if is_centre else config.mask.num_predicted(grid),
        )
        return training_operations(forward)

    def keep_every(self, catalog: Samples) -> int | None:
        """Steps of which the first checkpoint is kept for good; None: only the newest ones are kept."""
        length = self.config.checkpoint.keep_every
        if length is None:
            return None
        steps = length.steps(samples_per_epoch=catalog.num_samples, global_batch=self.train.global_batch)
        return max(1, steps)

    def first_block(self, step: int) -> int:
        """Number of the first micro-batch after `step` updates, at any number of workers."""
        return step * self.train.global_batch // self.train.micro_batch
