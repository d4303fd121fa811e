"""Mistakes about what is predicted; see `contradictions.py`."""

from __future__ import annotations

from collections.abc import Iterator

from mae_dist.config import masks
from mae_dist.config.geometry import Grid
from mae_dist.config.schema import RunConfig
from mae_dist.config.targets import HOG_CELL


def target_settings(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Targets that this model, input and mask cannot have."""
    target, architecture = config.target, config.architecture
    if target.kind == "hog" and architecture.patch % HOG_CELL:
        yield (
            "target.kind",
            f"hog needs patches of whole cells of {HOG_CELL} x {HOG_CELL} pixels, those of "
            f"{config.model.size} are {architecture.patch} x {architecture.patch}; choose another "
            "model.size, or another target",
        )
    most = target.num_frames(architecture.tubelet) * architecture.patch**2 * architecture.channels
    if target.kind == "pca" and target.components > most:
        yield "target.components", f"a patch has {most} values, got {target.components}; at most that many"
    if target.kind == "pca" and target.basis_patches < target.components:
        yield (
            "target.basis_patches",
            f"must be at least target.components = {target.components}, and better a thousand times as many, "
            f"got {target.basis_patches}",
        )
    if target.kind == "token" and target.tokenizer is None and config.weights is None:
        yield (
            "target.tokenizer",
            "required for target.kind token; give a run of pretrain/tokenizer, or its export",
        )
    if target.kind != "token" and target.tokenizer is not None:
        yield (
            "target.tokenizer",
            f"is not used by target.kind {target.kind}; leave it out, or target.kind token",
        )
    if target.frames != "same":
        yield from _other_frames(config)


def tokenizer_settings(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Settings of a run that trains a tokenizer."""
    if config.tokenizer is None:
        return
    first, last = config.tokenizer.temperature
    if last > first:
        yield "tokenizer.temperature", f"must not rise, got {[first, last]}"
    if config.tokenizer.vocabulary < 2:
        yield "tokenizer.vocabulary", f"must be at least 2, got {config.tokenizer.vocabulary}"
    if config.evaluations:
        yield (
            "evaluations",
            "a tokenizer is not evaluated; --set evaluations={} for none, or leave tokenizer out",
        )
    if config.weights is not None:
        yield "weights", "does not go with tokenizer, which trains weights of its own; leave one of them out"
    if config.start.weights is not None:
        yield (
            "start.weights",
            "does not go with tokenizer, which begins as it is drawn; leave one out",
        )
    if config.target.is_made or config.target.frames != "same":
        yield "target", "does not go with tokenizer, which predicts nothing; leave one of them out"


def _other_frames(config: RunConfig) -> Iterator[tuple[str, str]]:
    size, frames = config.input, config.target.frames
    if size.frames == 1:
        yield "target.frames", f"{frames} needs videos, and input.frames is 1; same would do"
    if frames == "centre" and config.mask.predict != "all":
        yield (
            "mask.predict",
            f"target.frames centre says already what is predicted, got {config.mask.predict}; all would do",
        )
    if frames == "centre" and config.mask.kind == "causal":
        tubelet, its = config.model.architecture.tubelet, config.mask
        grid = Grid(frames=size.frames // tubelet, rows=1, columns=1)
        if masks.kept_units(its.kind, grid, its.ratio, its.rounding) > grid.frames // 2:
            yield (
                "target.frames",
                f"centre is a frame that mask.kind causal always shows at mask.ratio {its.ratio}; a ratio of "
                "at least 0.5 would do",
            )
    if frames == "double" and size.sampling == "uniform":
        yield "target.frames", "double needs input.sampling dense, whose frames have a stride; same would do"
    elif frames == "double" and size.sample_fps is None and size.frame_stride % 2:
        yield (
            "input.frame_stride",
            f"must be even for target.frames double, which halves it, got {size.frame_stride}; "
            f"{size.frame_stride + 1} would do",
        )


TARGET_RULES = (
    (("model", "input", "mask", "target", "weights"), target_settings),
    (("tokenizer", "target", "evaluations", "start", "weights"), tokenizer_settings),
)
"""The fields that each reads, and the rule."""
