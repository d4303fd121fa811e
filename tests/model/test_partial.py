"""Fine-tuning of the last blocks alone: what changes, what does not, and what autograd keeps."""

from __future__ import annotations

import pytest
import torch

from mae_dist.model.classifier import Classifier
from mae_dist.model.encoder import Encoder
from tests.model.small import SMALL, randomised, seeded
from tests.model.test_classifier import patches_of

DEPTH = 3
MLP = ("mlp_norm.", "mlp.")
NUMBERS = [0, 0.5, 1, 1.5, 2, 2.5, 3]


def partial(name: str, trainable_blocks: float, *, pool: str = "mean", drop_path: float = 0.0) -> Classifier:
    encoder = Encoder(*SMALL[name])
    randomised(encoder, seed=1)
    return Classifier(
        encoder,
        5,
        pool=pool,
        drop_path=drop_path,
        trainable_blocks=trainable_blocks,
        generator=seeded(0),
    )


def expected(model: Classifier, trainable_blocks: float) -> set[str]:
    """Names of what should be trained, from the paper's words."""
    found = {name for name, _ in model.named_parameters() if not name.startswith("encoder.")}
    for name, _ in model.encoder.named_parameters():
        part, _, below = name.partition(".")
        if part == "norm" and trainable_blocks > 0:
            found.add(f"encoder.{name}")
        if part == "blocks":
            number, _, layer = below.partition(".")
            from_above = DEPTH - int(number)  # 1 is the last block
            if from_above <= trainable_blocks or (
                from_above - 0.5 <= trainable_blocks and layer.startswith(MLP)
            ):
                found.add(f"encoder.{name}")
    return found


@pytest.mark.parametrize("trainable_blocks", NUMBERS)
@pytest.mark.parametrize(("name", "pool"), [("mae", "mean"), ("mae", "class_token"), ("videomae", "mean")])
def test_exactly_the_last_blocks_change(name, pool, trainable_blocks):
    model = partial(name, trainable_blocks, pool=pool).train()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    # The mean of all logits would give the softmax's gradient of zero to everything below the head.
    model(patches_of(name)).square().mean().backward()
    optimizer.step()
    changed = {name for name, values in model.state_dict().items() if not torch.equal(values, before[name])}
    assert changed == expected(model, trainable_blocks)
    assert {name for name, p in model.named_parameters() if p.grad is not None} == changed


def test_half_a_block_is_its_mlp():
    trained = {name for name, p in partial("mae", 0.5).named_parameters() if p.requires_grad}
    assert {name.rsplit(".", 1)[0] for name in trained} == {
        "encoder.blocks.2.mlp_norm",
        "encoder.blocks.2.mlp.expand",
        "encoder.blocks.2.mlp.contract",
        "pooled_norm",
        "head",
    }


@pytest.mark.parametrize("trainable_blocks", [0, 0.5, 1, 2])
def test_below_the_first_trained_part_nothing_is_kept_for_a_backward_pass(trainable_blocks):
    model = partial("mae", trainable_blocks).train()
    needs_gradient = []
    for block in model.encoder.blocks:
        block.register_forward_hook(
            lambda _module, _inputs, output: needs_gradient.append(output.requires_grad)
        )
    model(patches_of("mae"))
    assert needs_gradient == [number + 1 > DEPTH - trainable_blocks for number in range(DEPTH)]


@pytest.mark.parametrize("mode", ["as it was made", "train"])
def test_frozen_parts_are_in_evaluation_mode_and_trained_ones_are_not(mode):
    model = partial("mae", 1.5, drop_path=0.5)
    if mode == "train":
        model.eval()
        model.train()
    lowest, middle, last = model.encoder.blocks
    assert not any(module.training for module in lowest.modules())
    assert not middle.get_submodule("attention").training
    assert middle.get_submodule("mlp").training
    assert all(module.training for module in last.modules())


def test_the_drop_path_of_frozen_parts_skips_nothing():
    torch.manual_seed(0)
    patches = patches_of("mae", num_samples=64)
    frozen = partial("mae", 0, drop_path=0.9).train()
    assert torch.equal(frozen(patches), frozen.eval()(patches))


def test_the_drop_path_of_half_a_block_skips_its_mlp_alone():
    torch.manual_seed(0)
    model, patches = partial("mae", 0.5, drop_path=0.9), patches_of("mae", num_samples=64)
    from_attention, from_block = [], []
    last = model.encoder.blocks[2]
    last.get_submodule("mlp_norm").register_forward_pre_hook(
        lambda _, inputs: from_attention.append(inputs[0])
    )
    last.register_forward_hook(lambda _module, _inputs, output: from_block.append(output))
    model.train()(patches)
    model.eval()(patches)
    assert torch.equal(*from_attention)
    assert not torch.equal(*from_block)


@pytest.mark.parametrize("trainable_blocks", [0.25, -1, 3.5, 4])
def test_blocks_that_are_not_there_are_refused(trainable_blocks):
    with pytest.raises(ValueError, match=r"must be 0, 0\.5, 1, 1\.5, \.\.\. up to 3, got"):
        partial("mae", trainable_blocks)
