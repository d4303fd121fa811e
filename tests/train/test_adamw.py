"""AdamW without the compiler is torch's AdamW."""

from __future__ import annotations

import copy

import torch
from torch import nn

from mae_dist.train.adamw import AdamW

OPTIONS = {"lr": 1e-2, "weight_decay": 0.05, "betas": (0.9, 0.95), "fused": True}


def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    module(torch.arange(12.0).view(3, 4)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_its_steps_and_its_state_are_those_of_torch():
    torch.manual_seed(0)
    ours = nn.Linear(4, 2)
    theirs = copy.deepcopy(ours)
    our_optimizer, their_optimizer = (
        AdamW(ours.parameters(), **OPTIONS),
        torch.optim.AdamW(theirs.parameters(), **OPTIONS),
    )
    for _ in range(3):
        step(ours, our_optimizer)
        step(theirs, their_optimizer)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(our_optimizer.state_dict(), their_optimizer.state_dict(), rtol=0, atol=0)

    other = AdamW(ours.parameters(), **OPTIONS)
    other.load_state_dict(copy.deepcopy(their_optimizer.state_dict()))
    step(ours, other)
    step(theirs, their_optimizer)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


def test_a_step_leaves_gradients_of_later_steps_alone():
    module = nn.Linear(4, 2)
    optimizer = AdamW(module.parameters(), **OPTIONS)
    step(module, optimizer)
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in module.parameters())
