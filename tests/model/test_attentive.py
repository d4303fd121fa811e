"""The pooler that learns where to look."""

from __future__ import annotations

import pytest
import torch

from mae_dist.model.attentive import AttentiveProbe


def probe(**changes) -> AttentiveProbe:
    options = {"heads": 4, "generator": torch.Generator().manual_seed(0)} | changes
    return AttentiveProbe(16, 3, **options)


def test_the_order_of_the_tokens_does_not_matter():
    """Positions are in the tokens already; a query attends to a set."""
    tokens = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(1))
    for model in (probe(), probe(blocks=2)):
        assert torch.allclose(model(tokens), model(tokens[:, [3, 1, 0, 5, 4, 2]]), atol=1e-6)


@pytest.mark.parametrize("blocks", [0, 2])
def test_every_weight_is_trained(blocks):
    model = probe(blocks=blocks)
    model(torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    still = [
        name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    # A softmax does not see what is added to all its scores, which is all that a bias of the keys does.
    assert [name for name in still if "key_value.bias" not in name and "qkv.bias" not in name] == []


def test_it_is_the_formula_of_the_paper():
    model = probe(heads=1)
    tokens = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(1))
    keys, values = model.attention.key_value(model.context_norm(tokens)).chunk(2, dim=-1)
    query = model.query[0]
    weights = (keys @ model.attention.query(query)[0] / 4).softmax(dim=-1)
    pooled = query + model.attention.output((weights[..., None] * values).sum(1))
    pooled = pooled + model.mlp(model.mlp_norm(pooled))
    assert torch.allclose(model(tokens), model.head(pooled), atol=1e-6)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="attention heads must divide the width 16, got 3"):
        probe(heads=3)
