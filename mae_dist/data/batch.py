"""One block of the stream: everything between sample numbers and the arrays that a worker receives.

    block -> positions -> (epoch, sample) -> bytes -> pixels of the views, kept tokens, labels

A pure function of (catalog, block, spec), so a block can be built anywhere, again, and by anyone. Letters: m
positions of the block, K views of one sample (spec.views_per_sample), M = m / K samples that are decoded.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mae_dist.config.geometry import Grid
from mae_dist.config.limits import DecodeLimits
from mae_dist.config.schema import (
    AugmentConfig,
    EvaluationConfig,
    InputConfig,
    MaskConfig,
    RunConfig,
    ViewsConfig,
)
from mae_dist.data import decoder
from mae_dist.data.boxes import BoxSpec, block_boxes
from mae_dist.data.catalog import Row
from mae_dist.data.faults import Fault, FaultBudgetError, replacement
from mae_dist.data.fetch import fetch
from mae_dist.data.limits import DecodeError
from mae_dist.data.masking import keep_ids, predict_ids
from mae_dist.data.mix import Samples
from mae_dist.data.order import block_positions
from mae_dist.data.stats import BlockMeter
from mae_dist.data.views import (
    Request,
    ViewSpec,
    decode_framed,
    decode_views,
    framed_bytes,
    split_framed,
)

Key = tuple[int, tuple[int, ...]]
"""A sample and the epochs of its views; with the seed they key every draw."""

REPLACEMENTS = 8
"""How many samples in a row are tried instead of an unreadable one before the block fails."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamSpec:
    """What, beside the catalog, a stream of blocks depends on."""

    seed: int
    micro_batch: int
    """Crops per block."""
    input: InputConfig
    augment: AugmentConfig
    mask: MaskConfig | None
    """None: no tokens are hidden and blocks have no "keep"."""
    grid: Grid
    train: bool
    """True: endless, in random order, augmented. False: one pass in the order of the catalog."""
    repeats: int = 1
    """Training crops that each decoded sample gives, one after the other."""
    drawn: bool = False
    """Unless `train`: each sample gives `repeats` crops drawn as in training, not the views of a test."""
    test: ViewsConfig = field(default_factory=ViewsConfig)
    """How a sample is looked at unless `train` or `drawn`. Outside of training its views stand side by side,
    and "epoch" is their number."""
    whole: bool = False
    """See ViewSpec."""
    boxes: BoxSpec | None = None
    """None: boxes of keyframes are left out."""
    decoder: str = "pyav"
    """What decodes videos; see ViewSpec."""
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    def __post_init__(self) -> None:
        if self.micro_batch % self.views_per_sample:
            what = "repeats" if self.train or self.drawn else "views"
            raise ValueError(
                f"micro_batch must be a multiple of {what} = {self.views_per_sample}, got {self.micro_batch}"
            )

    @property
    def views_per_sample(self) -> int:
        """Crops of one decode, which stay together in a block."""
        return self.repeats if self.train or self.drawn else self.test.count

    @property
    def views(self) -> ViewSpec:
        """What of it decoding depends on."""
        return ViewSpec(
            seed=self.seed,
            input=self.input,
            augment=self.augment,
            test=None if self.train or self.drawn else self.test,
            whole=self.whole,
            decoder=self.decoder,
            limits=self.limits,
        )


def stream_of_a_pass(config: RunConfig, evaluation: EvaluationConfig) -> StreamSpec:
    """One pass over samples, each seen from the sides of the evaluation's test, nothing of it hidden."""
    return StreamSpec(
        seed=config.seed,
        micro_batch=evaluation.eval_batch,
        input=config.input_for(evaluation),
        augment=evaluation.augment,
        mask=None,
        grid=config.grid,
        train=False,
        test=evaluation.views,
        decoder=config.data.decoder,
        limits=config.data.limits,
    )


def num_blocks(catalog: Samples, spec: StreamSpec) -> int:
    """Blocks of one pass over the catalog, the last one padded: ceil(num_samples * views / micro_batch)."""
    return -(-catalog.num_samples * spec.views_per_sample // spec.micro_batch)


def build_block(block: int, catalog: Samples, spec: StreamSpec) -> dict[str, Any]:
    """The arrays of one block of m = micro_batch crops (T, H, W, C from spec.input, N kept tokens).

    clips uint8 (m, T, H, W, C); label int64 (m,), -1 unknown; sample, epoch int64 (m,); keep int64 (m, N),
    only with a mask; counted bool (m,); with `spec.boxes` the arrays of `boxes.block_boxes`, with as many
    places as the sample with most boxes needs; faults: list of Fault; stats: BlockStats, the one entry that
    is another one each time.

    A sample that cannot be decoded is replaced by another one (`faults.replacement`), in a mix by one of its
    source: pixels, label and boxes are the other's; `sample`, crop and mask stay its own. It is one fault,
    however many crops it would have given. In an evaluation `counted` is False for such a row, and for rows
    beyond the end of the pass, which repeat sample 0; in training it is always True.

    Raises StorageError if a place cannot be reached (a file that is missing there is a fault, not an error),
    FaultBudgetError if a sample and REPLACEMENTS others in its stead are all unreadable, DecoderError if no
    sample can be decoded here.
    """
    meter = BlockMeter(_decoder(spec))
    positions = block_positions(block, spec.micro_batch)
    if spec.train:
        epochs, samples = catalog.order(spec.seed, spec.repeats).at(positions)
        counted = np.ones(len(positions), dtype=bool)
    else:
        samples, epochs = np.divmod(positions, spec.views_per_sample)
        counted = samples < catalog.num_samples
        samples = np.where(counted, samples, 0)

    size, num_views = spec.input, spec.views_per_sample
    epochs_MK, samples_M = epochs.reshape(-1, num_views), samples[::num_views]
    rows = catalog.rows(samples_M)
    view_shape: tuple[int, ...] = (size.frames, size.height, size.width, size.channels)
    if spec.boxes is not None:
        view_shape = (framed_bytes(size),)
    written = np.empty((*epochs_MK.shape, *view_shape), dtype=np.uint8)
    keys_M = [(int(sample), tuple(its.tolist())) for sample, its in zip(samples_M, epochs_MK, strict=True)]
    faults: list[Fault] = []
    for index, error in enumerate(_decode(rows, keys_M, spec, written, meter)):
        if error is None:
            continue
        log.warning("%s: cannot be read and is replaced: %s", rows[index].uri, error)
        rows[index], fault = _replace(
            catalog, rows[index], str(error), keys_M[index], spec, written[index : index + 1], meter
        )
        its = slice(index * num_views, (index + 1) * num_views)
        if counted[its].any():  # a row beyond the end repeats sample 0, which has been met
            faults.append(fault)
        counted[its] &= spec.train

    views = written.reshape(-1, *view_shape)
    result: dict[str, Any] = {
        "clips": views,
        "label": np.array([row.label for row in rows], dtype=np.int64).repeat(num_views),
        "sample": samples,
        "epoch": epochs,
    }
    if spec.boxes is not None:
        pixels, framings = split_framed(views, size)
        result["clips"] = np.ascontiguousarray(pixels)
        result |= block_boxes(
            [row.boxes or [] for row in rows for _ in range(num_views)],
            framings,
            spec.boxes,
            num_actions=catalog.num_classes,
            places=catalog.most_boxes,
            seed=spec.seed,
            epochs=epochs,
            samples=samples,
        )
    if spec.mask is not None:
        result |= _masks(spec, spec.mask, list(zip(epochs.tolist(), samples.tolist(), strict=True)))
    return result | {"counted": counted, "faults": faults, "stats": meter.stats()}


def _decode(
    rows: list[Row], keys_M: list[Key], spec: StreamSpec, written_MK: np.ndarray, meter: BlockMeter
) -> list[DecodeError | None]:
    """Read and decode these rows into `written_MK`; None or what is wrong with each."""
    requests = (
        data if isinstance(data, DecodeError) else Request(data, row.media, sample, epochs, row.time)
        for data, row, (sample, epochs) in zip(
            meter.reading(fetch(rows, spec.limits)), rows, keys_M, strict=True
        )
    )
    return _decoder(spec).decode(requests, spec.views, written_MK)


def _decoder(spec: StreamSpec) -> decoder.Decoder:
    return decoder.process_decoder(decode_views if spec.boxes is None else decode_framed)


def _masks(spec: StreamSpec, mask: MaskConfig, drawn: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    """ "keep", and "predict" unless that is all that is not kept, for these (epoch, sample)."""
    keyed = [{"seed": spec.seed, "epoch": epoch, "sample": sample} for epoch, sample in drawn]
    keep = [keep_ids(mask.kind, spec.grid, mask.ratio, rounding=mask.rounding, **key) for key in keyed]
    if mask.predict == "all":
        return {"keep": np.stack(keep)}
    predict = [
        predict_ids(mask.predict, spec.grid, mask.predict_ratio, kept, **key)
        for kept, key in zip(keep, keyed, strict=True)
    ]
    return {"keep": np.stack(keep), "predict": np.stack([ids for ids in predict if ids is not None])}


def _replace(
    catalog: Samples,
    row: Row,
    reason: str,
    key: Key,
    spec: StreamSpec,
    written_1K: np.ndarray,
    meter: BlockMeter,
) -> tuple[Row, Fault]:
    """Take the pixels of the first readable replacement; its row and the record of it."""
    unreadable = [f"{row.uri}: {reason}"]
    sample, epochs = key
    for attempt in range(REPLACEMENTS):
        other = replacement(spec.seed, epochs[0], sample, attempt, catalog.peers(sample))
        [other_row] = catalog.rows(np.array([other]))
        [error] = _decode([other_row], [key], spec, written_1K, meter)
        if error is None:
            return other_row, Fault(sample, row.uri, reason, other)
        unreadable.append(f"{other_row.uri}: {error}")
    raise FaultBudgetError(
        f"sample {sample} and {REPLACEMENTS} others drawn in its stead could not be read:\n"
        + "\n".join(f"  {line}" for line in unreadable)
    )
