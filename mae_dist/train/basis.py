"""The principal components that a pretraining predicts, from the first patches of its own stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from mae_dist.data.batch import build_block
from mae_dist.model.patches import patchify
from mae_dist.model.targets import components, frames_of, normalise
from mae_dist.train.training import Training


def make_basis(training: Training) -> tuple[bytes, float]:
    """A file of the components, and the share of the patches' variance that they hold.

    The patches are those of the samples that training sees first, cropped and mirrored as it does, so that
    they depend on catalog, seed and config alone; any number of workers and every resumed run then use the
    same file.
    """
    found, share = components.fit_components(_patches(training), training.config.target.components)
    return components.to_bytes(found), share


def _patches(training: Training) -> Iterator[Tensor]:
    """Normalised patches (n, P) of one block of the stream after the other, as many as the config says."""
    config = training.config
    target, architecture = config.target, config.architecture
    mean, std = torch.tensor(config.input.mean), torch.tensor(config.input.std)
    samples, spec = training.training_samples(), replace(training.stream(), mask=None)
    missing = target.basis_patches
    for block in itertools.count():
        clips = torch.from_numpy(build_block(block, samples, spec)["clips"])
        patches = patchify(
            frames_of(target, clips),
            patch=architecture.patch,
            tubelet=target.num_frames(architecture.tubelet),
        )
        pixels = patches.flatten(0, 1)[:missing].float() / 255
        yield normalise(pixels, mean, std)
        missing -= len(pixels)
        if not missing:
            return
