"""Training a tokenizer: what its loss is, how it cools down, what it leaves, and what is predicted of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mae_dist import storage
from mae_dist.config.load import load
from mae_dist.config.targets import TargetConfig
from mae_dist.config.tokenizers import TokenizerConfig
from mae_dist.model.targets import code_loss
from mae_dist.model.tokenizer import TokenizerCard, from_bytes, load_codes, to_bytes, tokenizer_of
from mae_dist.train.exporting import export
from mae_dist.train.tasks import PretrainTask, TokenizerTask
from mae_dist.train.training import Training
from mae_dist.train.worker import build_task
from tests.train.test_tasks import GRID, MICRO, batch
from tests.train.test_training import catalog

CARD = TokenizerCard(vocabulary=16, width=16, blocks=1, patch=4, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CONFIG = TokenizerConfig(vocabulary=16, width=16, blocks=1, anneal_samples=1000)


def task(**changes) -> TokenizerTask:
    torch.manual_seed(0)
    return TokenizerTask(CARD, dataclasses.replace(CONFIG, **changes))


def test_the_loss_is_the_squared_error_and_the_divergence_from_all_codes_alike():
    given = task(kl_weight=0.3)
    torch.manual_seed(5)
    out = given(batch())
    torch.manual_seed(5)
    images = (batch()["clips"][:, 0].permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    restored, logits = given.model(images, temperature=1.0)
    error = ((restored - images) ** 2).mean().item()
    shares = logits.softmax(1).detach().numpy().astype(float)
    divergence = (shares * np.log(shares * 16)).sum(1).mean()
    assert out.loss.item() == pytest.approx(error + 0.3 * divergence, rel=1e-5)
    assert out.metrics["error"].item() == pytest.approx(error, rel=1e-5)
    mean = shares.mean((0, 2, 3))
    assert out.metrics["codes_used"].item() == pytest.approx(np.exp(-(mean * np.log(mean)).sum()), rel=1e-5)


def test_the_temperature_falls_by_the_same_factor_with_each_sample_and_then_stays():
    given = task(temperature=(1.0, 0.25))
    assert given.temperature(0) == 1
    assert given.temperature(500) == pytest.approx(0.5)
    assert given.temperature(1000) == given.temperature(10**9) == pytest.approx(0.25)


def test_a_few_steps_restore_images_better_than_their_mean():
    """Images of one colour per patch, which a code can tell."""
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, temperature=(1.0, 0.25), anneal_samples=2400, kl_weight=0.03)
    given = TokenizerTask(dataclasses.replace(CARD, width=64), config)
    optimizer = torch.optim.Adam(given.parameters(), lr=3e-3)
    rng, errors = np.random.default_rng(0), []
    colours = rng.integers(0, 2, (300, 8, 1, 4, 4, 3), dtype=np.uint8) * 255
    for block, patches in enumerate(colours):
        clips = patches.repeat(4, 2).repeat(4, 3)
        torch.manual_seed(block)
        out = given({"clips": torch.from_numpy(clips), "block": block})
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        errors.append(out.metrics["error"].item())
    assert np.mean(errors[-20:]) < 0.5 * 4  # black and white in units of a deviation of 0.25: a variance of 4


def test_a_recipe_trains_one_exports_it_and_its_codes_are_what_is_predicted(tmp_path):
    config = load("pretrain/tokenizer_cifar10", ["data.catalog=images", "tokenizer.width=8"])
    training = Training(config=config, output=str(tmp_path), catalog="catalog.parquet")
    assert training.stream().mask is None
    made = build_task(training, num_classes=2)
    assert isinstance(made, TokenizerTask)
    export(training, made, catalog())
    data = storage.read_bytes(training.export)
    tokenizer, card = from_bytes(data)
    assert (card.vocabulary, card.patch, card.mean) == (512, 4, config.input.mean)
    assert card.provenance["Run"] == "tokenizer_cifar10"
    assert (
        "| Codes | 512, one per 4 x 4 pixels |"
        in storage.read_bytes(f"{tmp_path}/export/model_card.md").decode()
    )
    for name, values in made.model.state_dict().items():
        assert torch.equal(tokenizer.state_dict()[name], values)

    target = TargetConfig(kind="token", tokenizer=str(tmp_path), vocabulary=512)
    pretrain = PretrainTask(MICRO, GRID, config.input, target, made=data)
    predictions = []
    pretrain.model.register_forward_hook(lambda module, inputs, output: predictions.append(output))
    loss = pretrain(batch()).loss
    hidden = torch.tensor([[i for i in range(16) if i not in kept] for kept in batch()["keep"].tolist()])
    codes = load_codes(data)(batch()["clips"], tubelet=1).gather(1, hidden[..., None])
    assert predictions[0].shape == (4, 12, 512)
    assert loss.item() == pytest.approx(code_loss(predictions[0], codes).item(), rel=1e-6)
    loss.backward()
    assert all(parameter.grad is None for parameter in pretrain.target.parameters())


def test_codes_do_not_depend_on_mixed_precision():
    data = to_bytes(tokenizer_of(CARD).state_dict(), CARD)
    target = TargetConfig(kind="token", tokenizer="somewhere", vocabulary=16)
    pretrain = PretrainTask(
        MICRO, GRID, load("pretrain/cifar10", ["data.catalog=images"]).input, target, made=data
    )
    clips, ids = batch()["clips"], torch.arange(16).expand(4, -1)
    seen = pretrain.pixels.cut(clips)
    codes = pretrain.target(clips, seen, ids, pretrain.pixels.mean, pretrain.pixels.std)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(
            codes, pretrain.target(clips, seen, ids, pretrain.pixels.mean, pretrain.pixels.std)
        )
