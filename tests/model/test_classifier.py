"""Fine-tuning classifier and linear probe."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
import torch

from mae_dist.config.schema import HeadConfig
from mae_dist.model.classifier import POOLS, Classifier, LinearProbe
from mae_dist.model.encoder import Encoder
from mae_dist.model.patches import patchify
from tests.model.small import SMALL, clips, randomised, seeded

POOLS_OF = [
    (name, pool) for name in sorted(SMALL) for pool in sorted(POOLS) if "video" not in name or pool == "mean"
]
HEADS = [Classifier, LinearProbe]


def encoder_of(name: str) -> Encoder:
    encoder = Encoder(*SMALL[name])
    randomised(encoder, seed=1)
    return encoder


def patches_of(name: str, num_samples: int = 2) -> torch.Tensor:
    architecture, grid = SMALL[name]
    pixels = clips(architecture, grid, num_samples=num_samples).float() / 255
    return patchify(pixels, patch=architecture.patch, tubelet=architecture.tubelet)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("name", "pool"), POOLS_OF)
def test_every_pool_of_every_model_gives_one_row_of_logits_per_sample(head, name, pool):
    model = head(encoder_of(name), 7, pool=pool, generator=seeded(0))
    assert model(patches_of(name)).shape == (2, 7)


def test_mean_pooling_averages_patch_tokens_without_the_encoder_norm_then_norms_afresh():
    tokens_before_norm = []
    encoder = encoder_of("mae")
    encoder.blocks.register_forward_hook(lambda _module, _inputs, output: tokens_before_norm.append(output))
    model = Classifier(encoder, 3, generator=seeded(0)).eval()
    logits = model(patches_of("mae"))
    average = tokens_before_norm[0][:, 1:].mean(1)
    centred = average - average.mean(-1, keepdim=True)
    normed = centred / (average.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(logits, normed @ model.head.weight.T, rtol=1e-4, atol=1e-5)
    assert not [n for n in model.state_dict() if n.startswith("encoder.norm")]


def test_class_token_pooling_keeps_the_encoder_norm():
    encoder = encoder_of("mae")
    expected = encoder(patches_of("mae"))[:, 0]
    model = Classifier(encoder, 3, pool="class_token", generator=seeded(0)).eval()
    torch.testing.assert_close(model(patches_of("mae")), expected @ model.head.weight.T)


@pytest.mark.parametrize("head", HEADS)
def test_a_class_token_that_is_not_there_is_refused(head):
    with pytest.raises(
        ValueError, match="needs an encoder with a class token; this one has none, use 'mean'"
    ):
        head(encoder_of("videomae"), 3, pool="class_token")


def test_drop_path_grows_from_zero_to_its_value_over_the_blocks():
    model = Classifier(encoder_of("mae"), 3, drop_path=0.2)
    assert [block.drop_path for block in model.encoder.blocks] == pytest.approx([0, 0.1, 0.2])


def test_drop_path_and_dropout_act_in_training_and_not_in_evaluation():
    torch.manual_seed(0)
    model = Classifier(encoder_of("mae"), 3, drop_path=0.5, dropout=0.5, generator=seeded(0))
    patches = patches_of("mae", num_samples=8)
    assert not torch.equal(model.train()(patches), model(patches))
    assert torch.equal(model.eval()(patches), model(patches))


@pytest.mark.parametrize(("init_scale", "deviation"), [(1.0, 0.02), (0.001, 2e-5)])
def test_head_weights_start_at_the_deviation_of_the_papers(init_scale, deviation):
    weight = Classifier(encoder_of("mae"), 500, init_scale=init_scale, generator=seeded(0)).head.weight
    assert weight.std().item() == pytest.approx(deviation, rel=0.03)


def test_only_the_head_of_a_probe_learns_and_its_encoder_stays_in_evaluation_mode():
    encoder = encoder_of("mae")
    probe = LinearProbe(encoder, 3, generator=seeded(0)).train()
    assert probe.training
    assert probe.feature_norm.training
    assert not any(module.training for module in encoder.modules())
    probe(patches_of("mae")).sum().backward()
    assert [n for n, p in probe.named_parameters() if p.grad is not None] == ["head.weight", "head.bias"]
    assert probe.head.weight.std().item() == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize(("name", "pool"), POOLS_OF)
def test_a_probe_normalises_features_over_the_batch_without_affine(name, pool):
    encoder = encoder_of(name)
    tokens = encoder(patches_of(name, num_samples=6))
    features = tokens[:, 0] if pool == "class_token" else tokens[:, encoder.num_extra_tokens :].mean(1)
    probe = LinearProbe(encoder, 3, pool=pool, generator=seeded(0)).train()
    normed = (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-6).sqrt()
    logits = probe(patches_of(name, num_samples=6))
    torch.testing.assert_close(logits, normed @ probe.head.weight.T, rtol=1e-3, atol=1e-4)


def test_a_probe_on_kept_features_gives_the_same_logits():
    probe = LinearProbe(encoder_of("mae"), 3, generator=seeded(0)).eval()
    patches = patches_of("mae")
    assert torch.equal(probe.classify(probe.features(patches)), probe(patches))


def test_a_recipe_can_name_exactly_the_pools_that_exist():
    assert set(get_args(get_type_hints(HeadConfig)["pool"])) == set(POOLS)
