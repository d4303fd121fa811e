"""The task of a training as the formulas need it: samples, parameters, activations, recomputed operations."""

from __future__ import annotations

import torch
from torch import nn

from mae_dist.config.data_sets import known_data_sets, labelled_field
from mae_dist.data.sources import is_drawn, num_drawn
from mae_dist.model.encoder import Encoder
from mae_dist.model.operations import forward_multiply_adds
from mae_dist.model.partial import freeze_all_but
from mae_dist.orchestrate.sizing.activations import (
    Activations,
    classifier_activations,
    pretraining_activations,
)
from mae_dist.orchestrate.sizing.states import Trained
from mae_dist.train.tasks import PretrainTask
from mae_dist.train.training import Training


def num_samples(training: Training) -> int | None:
    """Size of the training set where the recipe tells it, by the name of a public data set or a drawn one."""
    config, protocol = training.config, training.protocol
    if protocol is not None and protocol.labels_per_class is not None:
        return None
    known, total = known_data_sets(config), 0
    is_part = protocol is not None and config.data.labelled is not None
    for field, source in config.data.sources.items():
        if is_part and field != labelled_field(config):
            continue
        if is_drawn(source):
            total += num_drawn(source)
        elif field in known:
            total += known[field].num_train
        else:
            return None
    return total


def pixel_bytes(training: Training) -> int:
    """Of one sample on its way to the device."""
    its = training.config.input
    # A target of twice the frames is made of pixels that the encoder does not see.
    is_double = training.protocol is None and training.config.target.frames == "double"
    return (1 + is_double) * its.frames * its.height * its.width * its.channels


def trained_parameters(training: Training) -> Trained:
    """Parameters of the real modules, which get no memory; a classifier's head is left out."""
    config, protocol = training.config, training.protocol
    architecture = config.architecture
    with torch.device("meta"):
        if protocol is None:
            task = PretrainTask(architecture, config.grid, config.input, config.target)
            encoder = _num_trained(task.model.encoder)
            return Trained(encoder=encoder, decoder=_num_trained(task) - encoder)
        module = Encoder(architecture, config.grid)
    if protocol.protocol == "linear_probe":
        module.requires_grad_(False)
    elif protocol.trainable_blocks is not None:
        freeze_all_but(module, protocol.trainable_blocks)
    trained = _num_trained(module)
    return Trained(encoder=trained, decoder=0, frozen=sum(p.numel() for p in module.parameters()) - trained)


def step_activations(training: Training, *, is_half: bool, recompute: bool) -> Activations:
    """Of one sample; `is_half` is autocast to bf16 or fp16, `recompute` activation checkpointing."""
    config, protocol = training.config, training.protocol
    architecture, grid = training.architecture, config.grid
    value_bytes = 2 if is_half else 4
    if protocol is None:
        return pretraining_activations(
            architecture,
            grid,
            num_kept=config.mask.num_kept(grid),
            num_predicted=_num_predicted(training),
            value_bytes=value_bytes,
            recompute=recompute,
        )
    return classifier_activations(
        architecture,
        grid,
        trainable_blocks=protocol.trainable_blocks,
        is_frozen=protocol.protocol == "linear_probe",
        value_bytes=value_bytes,
        recompute=recompute,
    )


def recomputed_operations(training: Training) -> int:
    """Operations of one sample that activation checkpointing adds: another forward pass of the blocks."""
    config, protocol = training.config, training.protocol
    architecture, grid = training.architecture, config.grid
    if protocol is None:
        forward = forward_multiply_adds(
            architecture,
            grid,
            num_kept=config.mask.num_kept(grid),
            num_predicted=_num_predicted(training),
        )
        # Bridge and prediction, a few percent of the decoder, are not computed twice.
        return 2 * (forward.blocks + (0 if architecture.cross_decoder else forward.decoder))
    depth = architecture.encoder.depth
    trained = depth if protocol.trainable_blocks is None else protocol.trainable_blocks
    return int(2 * forward_multiply_adds(architecture, grid).blocks * trained / depth)


def _num_predicted(training: Training) -> int | None:
    config = training.config
    return (
        config.grid.per_frame if config.target.frames == "centre" else config.mask.num_predicted(config.grid)
    )


def _num_trained(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
