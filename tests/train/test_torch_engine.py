"""The reference engine on one process: what it averages and what it refuses to take in."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mae_dist.train.engine import FullState, StepOutput, TorchEngine, load_weights


class Line(nn.Module):
    """Two weights; the loss is their product with what the batch says."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, batch) -> StepOutput:
        return StepOutput((self.weight * batch["x"]).sum(), {})


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": list(module.parameters())}], lr=0.0)


def make_engine(**options) -> TorchEngine:
    settings = {"accumulation": 1, "clip_grad_norm": None, "autocast_dtype": None, "ema": 0.75} | options
    return TorchEngine(Line(), sgd, **settings)


def update(engine: TorchEngine, x: float) -> torch.Tensor:
    engine.backward(engine({"x": torch.full((2,), x)}).loss)
    return engine.step(1.0)


def averages(engine: TorchEngine) -> list[float]:
    return FullState(engine.fragments()).flat("ema", "weight", 2).tolist()


def test_the_average_starts_at_the_weights_and_follows_every_update():
    engine = make_engine()
    assert averages(engine) == [1.0, 2.0]
    update(engine, 1.0)  # weights 0, 1
    assert averages(engine) == [0.75, 1.75]
    update(engine, -1.0)  # weights 1, 2
    assert averages(engine) == [0.8125, 1.8125]


@pytest.mark.parametrize("x", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_averages(x):
    engine = make_engine(clip_grad_norm=1.0)
    assert update(engine, x).item() == math.inf
    assert engine.module.weight.tolist() == averages(engine) == [1.0, 2.0]
    assert engine.scale.skipped_updates == 1
    assert math.isfinite(update(engine, 1.0))
    assert averages(engine) != [1.0, 2.0]


def test_a_state_without_averages_is_named_where_they_are_needed():
    engine = make_engine()
    with pytest.raises(ValueError, match=r"saved state of weight \(ema\) covers 0 of 2 values"):
        engine.load(FullState(make_engine(ema=None).fragments()), num_updates=0)


def test_averages_become_the_weights_of_another_module():
    engine, module = make_engine(), Line()
    update(engine, 1.0)
    load_weights(module, FullState(engine.fragments()), kind="ema")
    assert module.weight.tolist() == [0.75, 1.75]
