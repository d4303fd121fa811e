"""Attention kernels, key bias and drop path."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mae_dist.config.geometry import Stack
from mae_dist.model.transformer import (
    PLAIN_TOKENS,
    Attention,
    Block,
    attend,
    recompute_activations,
    transformer,
)
from tests.model.small import randomised, seeded

STACK = Stack(width=24, depth=1, heads=3)


def random_tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(0))


def test_attention_is_the_softmax_average_of_values_in_every_head():
    attention = randomised(Attention(STACK, key_bias=True), seed=1)
    tokens = random_tokens(2, 5, 24)
    query, key, value = F.linear(tokens, attention.qkv.weight, attention.qkv.bias).chunk(3, dim=-1)
    heads = []
    for head in range(3):
        part = slice(8 * head, 8 * head + 8)
        scores = torch.einsum("bqd,bkd->bqk", query[..., part], key[..., part]) / 8**0.5
        heads.append(scores.softmax(-1) @ value[..., part])
    expected = F.linear(torch.cat(heads, -1), attention.output.weight, attention.output.bias)
    torch.testing.assert_close(attention(tokens), expected, rtol=1e-5, atol=1e-6)


def test_softmax_does_not_see_a_key_bias():
    with_bias = randomised(Attention(STACK, key_bias=True), seed=1)
    without = Attention(STACK, key_bias=False)
    query_bias, _, value_bias = with_bias.qkv.bias.chunk(3)
    without.load_state_dict(
        {
            "qkv.weight": with_bias.qkv.weight,
            "query_bias": query_bias,
            "value_bias": value_bias,
            "output.weight": with_bias.output.weight,
            "output.bias": with_bias.output.bias,
        }
    )
    tokens = random_tokens(2, 5, 24)
    torch.testing.assert_close(without(tokens), with_bias(tokens), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.03), (torch.float16, 0.004)])
@pytest.mark.parametrize("num_tokens", [1, 7, 64, PLAIN_TOKENS + 1])
def test_half_precision_on_a_cpu_agrees_with_float32_to_its_precision(num_tokens, dtype, tolerance):
    qkv = random_tokens(3, 2, 3, num_tokens, 8).to(dtype)
    expected = attend(*qkv.float())
    torch.testing.assert_close(attend(*qkv).float(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_a_cpu_does_not_use_the_fused_kernel_for_few_tokens(dtype, monkeypatch):
    def refuse(*_):
        raise AssertionError("fused kernel")

    monkeypatch.setattr(F, "scaled_dot_product_attention", refuse)
    attend(*random_tokens(3, 1, 1, PLAIN_TOKENS, 8).to(dtype))
    for fused in (random_tokens(3, 1, 1, 4, 8), random_tokens(3, 1, 1, PLAIN_TOKENS + 1, 8).to(dtype)):
        with pytest.raises(AssertionError, match="fused kernel"):
            attend(*fused)


@pytest.mark.parametrize("key_bias", [True, False])
@pytest.mark.parametrize("recompute", [True, False])
def test_the_last_tokens_alone_come_out_as_they_do_among_all(recompute, key_bias):
    stack = Stack(width=24, depth=2, heads=3)
    blocks = randomised(transformer(stack, key_bias=key_bias), seed=1)
    if recompute:
        recompute_activations(blocks)
    found = []
    for wanted in (lambda tokens: blocks(tokens)[:, -3:], lambda tokens: blocks(tokens, 3)):
        blocks.zero_grad()
        output = wanted(random_tokens(2, 7, 24))
        output.square().sum().backward()
        found.append([output, *(parameter.grad for parameter in blocks.parameters())])
    for alone, among_all in zip(*found, strict=True):
        torch.testing.assert_close(
            alone, among_all, rtol=1e-5, atol=1e-6 * float(among_all.detach().abs().max())
        )


def test_drop_path_is_off_in_evaluation():
    block = randomised(Block(STACK, key_bias=True), seed=1).eval()
    tokens = random_tokens(4, 5, 24)
    expected = block(tokens)
    block.drop_path = 0.9
    assert torch.equal(block(tokens), expected)


def test_drop_path_leaves_a_sample_whole_or_skips_it_and_keeps_the_expectation():
    torch.manual_seed(0)
    block = randomised(Block(STACK, key_bias=True), seed=1).train()
    block.drop_path = 0.25
    # Without the MLP, a sample is either the stream alone or the stream plus attention / 0.75.
    torch.nn.init.zeros_(block.mlp.contract.weight)
    torch.nn.init.zeros_(block.mlp.contract.bias)
    tokens = random_tokens(1, 5, 24).expand(400, -1, -1)
    change = block(tokens) - tokens
    full = block.attention(block.attention_norm(tokens[:1])) / 0.75
    skipped = (change == 0).all(-1).all(-1)
    torch.testing.assert_close(change[~skipped], full.expand_as(change[~skipped]), rtol=1e-4, atol=1e-5)
    assert 60 < skipped.sum() < 140  # 100 expected, standard deviation 8.7


def gradients_and_kept_values(*, recompute: bool) -> tuple[torch.Tensor, list[torch.Tensor], int]:
    """Of four blocks with drop path: output, gradients, and numbers kept for the backward pass."""
    blocks = randomised(transformer(Stack(width=24, depth=4, heads=3), key_bias=True), seed=1).train()
    for block in blocks:
        block.drop_path = 0.5
    if recompute:
        recompute_activations(blocks)
    torch.manual_seed(0)
    kept: dict[int, int] = {}

    def keep(values: torch.Tensor) -> torch.Tensor:
        kept[values.data_ptr()] = values.numel()
        return values

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        output = blocks(random_tokens(8, 16, 24).requires_grad_())
    output.square().sum().backward()
    return output.detach(), [parameter.grad for parameter in blocks.parameters()], sum(kept.values())


def test_recomputed_activations_give_the_same_gradients_from_a_fraction_of_what_is_kept():
    output, gradients, kept = gradients_and_kept_values(recompute=False)
    again, recomputed, kept_less = gradients_and_kept_values(recompute=True)
    assert torch.equal(again, output)
    assert all(torch.equal(*pair) for pair in zip(recomputed, gradients, strict=True))
    assert kept_less < kept / 8


def test_nothing_is_recomputed_without_gradients():
    blocks = transformer(STACK, key_bias=True)
    recompute_activations(blocks)
    with torch.no_grad():
        assert blocks(random_tokens(2, 5, 24)).grad_fn is None
