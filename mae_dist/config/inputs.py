"""Mistakes about the pixels of a sample: how many channels, how many frames; see `lint.py`."""

from __future__ import annotations

from collections.abc import Iterator

from mae_dist.config.schema import AugmentConfig, RunConfig

Finding = tuple[str, str]


def pixel_statistics(config: RunConfig) -> Iterator[Finding]:
    """One mean and one deviation for each channel."""
    its = config.input
    for name in ("mean", "std"):
        given = list(getattr(its, name))
        if len(given) != its.channels:
            yield (
                f"input.{name}",
                f"must have one value for each of input.channels = {its.channels}, got {given}",
            )
    if min(its.std, default=1.0) <= 0:
        yield "input.std", f"must be greater than 0, got {list(its.std)}"


def frames_are_told_apart(config: RunConfig) -> Iterator[Finding]:
    """MAE's positions are of one place in time."""
    architecture, frames = config.model.architecture, config.input.frames
    if architecture.positions == "sincos_2d" and frames > architecture.tubelet:
        yield (
            "input.frames",
            f"{frames}, but {config.model.size} tells no frames apart; {architecture.tubelet} would do, or a "
            "videomae_* size",
        )


def colour_changes(config: RunConfig, augment: AugmentConfig) -> Iterator[Finding]:
    """RandAugment and shifts of colour are of red, green and blue."""
    if config.input.channels == 3:
        return
    for name in ("rand_augment", "color_jitter"):
        given = getattr(augment, name)
        if given is not None:
            yield f"augment.{name}", f"is for 3 channels, and input.channels is {config.input.channels}; null"
