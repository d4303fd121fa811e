"""Heads side by side are what each would be alone, in torch's and timm's own optimisers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mae_dist.config.optimisation import OptimConfig
from mae_dist.config.probing import AttentiveConfig, HeadsConfig
from mae_dist.evaluate.attentive import AttentiveHeads
from mae_dist.evaluate.heads import RULES, LinearHeads, rates
from mae_dist.model.attentive import AttentiveProbe
from mae_dist.train.param_groups import make_optimizer

NAMES = ("1.mean", "2.mean")
CLASSES, WIDTH, ROWS, STEPS = 5, 8, 12, 6
CPU = torch.device("cpu")


def config(kind: str = "sgd", **changes) -> HeadsConfig:
    return HeadsConfig(
        **{"kind": kind, "batch": 256, "base_lrs": (0.02, 0.3), "weight_decays": (0.0, 0.1)} | changes
    )


def batches(shape=(WIDTH,)) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(STEPS):
        rows = {
            name: torch.randn(ROWS, *shape, generator=generator, dtype=torch.float64) + 1 for name in NAMES
        }
        made.append(rows | {"label": torch.randint(CLASSES, (ROWS,), generator=generator)})
    return made


def side_by_side(given: HeadsConfig, rows, names=NAMES) -> LinearHeads:
    heads = LinearHeads(names, WIDTH, CLASSES, given, seed=3, device=CPU, dtype=torch.float64)
    for step, batch in enumerate(rows):
        heads.update(batch, 1 - step / STEPS)
    return heads


def alone(kind: str, name: str, lr: float, decay: float, rows) -> torch.nn.Sequential:
    """The paper's probe, trained by the optimisers that trainings use."""
    norm = torch.nn.BatchNorm1d(WIDTH, affine=False, eps=1e-6)
    head = torch.nn.Linear(WIDTH, CLASSES)
    torch.nn.init.trunc_normal_(head.weight, std=0.01, generator=torch.Generator().manual_seed(3))
    torch.nn.init.zeros_(head.bias)
    model = torch.nn.Sequential(norm, head).double()
    if kind == "sgd":
        groups = [{"params": [head.weight], "weight_decay": decay}, {"params": [head.bias]}]
        optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    else:
        optim = OptimConfig(kind=kind, base_lr=lr, weight_decay=decay, betas=(0.9, 0.999))
        optimizer = make_optimizer(model, optim, depth=1)
    for step, batch in enumerate(rows):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / STEPS)
        optimizer.zero_grad()
        F.cross_entropy(model(batch[name]), batch["label"]).backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("kind", sorted(RULES))
def test_each_head_equals_training_it_alone(kind):
    rows, given = batches(), config(kind)
    together = side_by_side(given, rows).logits(rows[0])
    assert together.shape == (ROWS, len(NAMES) * 4, CLASSES)
    settings = [(name, *pair) for name in NAMES for pair in rates(given)]
    for head, (name, lr, decay) in enumerate(settings):
        expected = alone(kind, name, lr, decay, rows)(rows[0][name])
        assert torch.allclose(together[:, head], expected, rtol=1e-9, atol=1e-12), (name, lr, decay)


@pytest.mark.parametrize("kind", sorted(RULES))
def test_a_head_does_not_know_of_others(kind):
    """The same bits with half of the heads, in float64 at least to the last few."""
    rows = batches()
    both, one = side_by_side(config(kind), rows), side_by_side(config(kind, base_lrs=(0.3,)), rows, NAMES[1:])
    assert torch.allclose(both.logits(rows[1])[:, 6:], one.logits(rows[1]), rtol=1e-12, atol=1e-14)


def test_one_head_answers_as_it_does_among_all():
    rows = batches()
    heads = side_by_side(config(), rows)
    for number in range(8):
        its = heads.logits(rows[2], number)
        assert torch.allclose(its[:, 0], heads.logits(rows[2])[:, number], rtol=1e-12, atol=1e-14)


def test_heads_are_named_by_what_distinguishes_them():
    heads = side_by_side(config(), batches())
    assert heads.settings()[5] == {"layer": 2, "pool": "mean", "base_lr": 0.02, "weight_decay": 0.1}


def test_the_losses_are_those_of_each_head():
    rows = batches()
    heads = side_by_side(config(), rows[:1])
    before = side_by_side(config(), [])
    assert torch.allclose(
        before.update(rows[0], 0.0), torch.full((8,), torch.tensor(5.0).log().item()).double(), atol=0.05
    )
    assert heads.update(rows[0], 0.0).argmin() in (2, 3, 6, 7)  # the larger learning rate learned more


def test_a_head_that_diverged_is_told_from_the_others():
    heads = side_by_side(config(base_lrs=(0.1, 1e300)), batches() * 3)
    # Without weight decay the weights are absurd, but numbers.
    assert heads.finite().tolist() == [True, True, True, False] * 2


def test_attentive_heads_are_trained_each_by_itself():
    rows = [
        {"4.tokens": batch["1.mean"].float()} | {"label": batch["label"]} for batch in batches((3, WIDTH))
    ]
    options = {"seed": 0, "device": CPU}
    attentive = AttentiveConfig(heads=4)
    adamw = config("adamw", base_lrs=(1e-3, 1e-2), weight_decays=(0.1,))
    both = AttentiveHeads("4.tokens", WIDTH, CLASSES, adamw, attentive, **options)
    model = AttentiveProbe(WIDTH, CLASSES, heads=4, generator=torch.Generator().manual_seed(0))
    optimizer = make_optimizer(
        model,
        OptimConfig(base_lr=1e-2, weight_decay=0.1, betas=(0.9, 0.999)),
        depth=1,
    )
    for batch in rows:
        both.update(batch, 0.5)
        optimizer.zero_grad()
        F.cross_entropy(model(batch["4.tokens"]), batch["label"]).backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.5e-2
        optimizer.step()
    assert both.logits(rows[0]).shape == (ROWS, 2, CLASSES)
    assert torch.allclose(both.logits(rows[0], 1)[:, 0], model(rows[0]["4.tokens"]), atol=1e-5)
    assert [its["base_lr"] for its in both.settings()] == [1e-3, 1e-2]
    assert both.finite().tolist() == [True, True]
