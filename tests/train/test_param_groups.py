"""Weight decay and layer decay reach the parameters they are meant for."""

from __future__ import annotations

import pytest
import torch
from timm.optim.lars import Lars

from mae_dist.config.geometry import Grid, architecture
from mae_dist.config.optimisation import OptimConfig
from mae_dist.model.classifier import Classifier, LinearProbe
from mae_dist.model.encoder import Encoder
from mae_dist.train.param_groups import layer_of, make_optimizer, param_groups

MICRO = architecture("mae_micro")
GRID = Grid(frames=1, rows=4, columns=4)


def classifier() -> torch.nn.Module:
    module = torch.nn.Module()
    module.model = Classifier(Encoder(MICRO, GRID), 10)
    return module


def test_every_trained_parameter_is_in_exactly_one_group():
    module = classifier()
    groups = param_groups(module, OptimConfig(base_lr=1.0, layer_decay=0.75), depth=6)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in module.parameters())


def test_vectors_are_not_decayed_and_matrices_are():
    for group in param_groups(classifier(), OptimConfig(base_lr=1.0, weight_decay=0.3), depth=6):
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.3 if parameter.ndim > 1 else 0.0)


def test_layer_decay_falls_from_the_head_to_the_patches():
    module = classifier()
    groups = param_groups(module, OptimConfig(base_lr=1.0, layer_decay=0.5), depth=6)
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    scales = {name: scale[id(parameter)] for name, parameter in module.named_parameters()}
    assert scales["model.head.weight"] == 1.0
    assert scales["model.encoder.blocks.5.mlp.expand.weight"] == 0.5
    assert scales["model.encoder.blocks.0.mlp.expand.weight"] == 0.5**6
    assert scales["model.encoder.patch_embedding.weight"] == 0.5**7
    assert scales["model.encoder.class_token"] == 0.5**7


@pytest.mark.parametrize(
    ("name", "layer"), [("model.encoder.class_token", 0), ("model.encoder.blocks.11.x", 12), ("head", 13)]
)
def test_layers_are_numbered_as_the_papers_do(name, layer):
    assert layer_of(name, depth=12) == layer


def test_lars_adapts_matrices_but_not_vectors_and_leaves_the_frozen_encoder_out():
    module = torch.nn.Module()
    module.model = LinearProbe(Encoder(MICRO, GRID), 10)
    optimizer = make_optimizer(module, OptimConfig(kind="lars", base_lr=0.1, weight_decay=0.0), depth=6)
    assert isinstance(optimizer, Lars)
    adapted = {tuple(p.shape): g["always_adapt"] for g in optimizer.param_groups for p in g["params"]}
    assert adapted == {(10, 192): True, (10,): False}


def test_the_fused_optimiser_makes_the_updates_of_the_default():
    optim = OptimConfig(base_lr=1.0, weight_decay=0.3)
    updated = {}
    for fused in (True, False):
        torch.manual_seed(0)
        module = classifier()
        optimizer = make_optimizer(module, optim, depth=6)
        for group in optimizer.param_groups:
            assert group["fused"]
            group |= {"lr": 0.01, "fused": fused}
        for _ in range(3):
            for parameter in module.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        updated[fused] = [parameter.detach() for parameter in module.parameters()]
    for found, expected in zip(updated[True], updated[False], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_sgd_has_momentum_and_the_weight_decay_of_the_groups():
    optim = OptimConfig(kind="sgd", base_lr=0.1, momentum=0.8, weight_decay=0.0)
    module = torch.nn.Module()
    module.model = LinearProbe(Encoder(MICRO, GRID), 10)
    optimizer = make_optimizer(module, optim, depth=6)
    assert isinstance(optimizer, torch.optim.SGD)
    assert [p.shape for g in optimizer.param_groups for p in g["params"]] == [(10,), (10, 192)]
    assert all(group["momentum"] == 0.8 and group["weight_decay"] == 0.0 for group in optimizer.param_groups)
