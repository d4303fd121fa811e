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


@pytest.mark.parametrize(("skip_above", "weights"), [(1.0, [1.0, 2.0]), (2.0, [0.0, 1.0])])
def test_a_gradient_above_the_limit_changes_neither_weights_nor_averages(skip_above, weights):
    engine = make_engine()
    engine.backward(engine({"x": torch.ones(2)}).loss)  # of norm 1.41
    assert engine.step(1.0, skip_above=skip_above).item() == pytest.approx(2**0.5)
    assert engine.module.weight.tolist() == weights
    assert (averages(engine) == [1.0, 2.0]) == (weights == [1.0, 2.0])
    assert engine.scale.skipped_updates == (weights == [1.0, 2.0])


def test_a_state_without_averages_is_refused_where_they_are_wanted_before_anything_changes():
    engine, saved = make_engine(), make_engine(ema=None)
    update(saved, 1.0)
    with pytest.raises(ValueError) as caught:
        engine.load(FullState(saved.fragments()), num_updates=1)
    assert str(caught.value) == (
        "the saved state has no moving average of the weights: it was trained with train.ema=null. Set that "
        "again, or begin a run of its own with --set name=..."
    )
    assert engine.module.weight.tolist() == [1.0, 2.0]


def adamw(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([{"params": list(module.parameters())}], lr=0.0)


def momentum(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": list(module.parameters())}], lr=0.0, momentum=0.9)


def test_a_state_of_another_optimiser_is_refused_with_both_named():
    saved = TorchEngine(Line(), momentum, accumulation=1, clip_grad_norm=None, autocast_dtype=None)
    update(saved, 1.0)
    engine = TorchEngine(Line(), adamw, accumulation=1, clip_grad_norm=None, autocast_dtype=None)
    with pytest.raises(ValueError) as caught:
        engine.load(FullState(saved.fragments()), num_updates=1)
    assert str(caught.value) == (
        "the saved state is that of another optimiser: it has momentum_buffer, and AdamW needs exp_avg, "
        "exp_avg_sq. Set optim.kind to what it was, or begin a run of its own with --set name=..."
    )


def test_a_state_saved_before_the_first_update_fits_any_optimiser():
    saved = TorchEngine(Line(), momentum, accumulation=1, clip_grad_norm=None, autocast_dtype=None)
    engine = TorchEngine(Line(), adamw, accumulation=1, clip_grad_norm=None, autocast_dtype=None)
    engine.load(FullState(saved.fragments()), num_updates=0)
    assert math.isfinite(update(engine, 1.0))


def test_averages_become_the_weights_of_another_module():
    engine, module = make_engine(), Line()
    update(engine, 1.0)
    load_weights(module, FullState(engine.fragments()), kind="ema")
    assert module.weight.tolist() == [0.75, 1.75]
