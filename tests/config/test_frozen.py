"""Evaluations of a frozen encoder in recipes: what each protocol has, and what it has not."""

from __future__ import annotations

import pytest

from mae_dist.config.load import load
from tests.config.small import CATALOG, mistakes


@pytest.mark.parametrize("protocol", ["feature_probe", "attentive_probe", "knn"])
def test_a_protocol_on_kept_features_needs_nothing_but_its_name(protocol):
    config = load("pretrain/in1k", [CATALOG, f"evaluations.mine={{protocol: {protocol}}}"])
    assert config.evaluations["mine"].train is None


@pytest.mark.parametrize(
    ("evaluation", "problem"),
    [
        (
            "{protocol: knn, "
            "train: {length: 1 epochs, global_batch: 8, micro_batch: 1, optim: {base_lr: 1}}, workers: 1}",
            "mine.train: is not used by knn, whose settings are in knn; leave it out",
        ),
        (
            "{protocol: feature_probe, head: {pool: class_token}}",
            "mine.head: is not used by feature_probe, whose settings are in features and heads; leave it out",
        ),
        (
            "{protocol: knn, heads: {batch: 8}}",
            "mine.heads: is not used by knn, only by feature_probe and attentive_probe; leave it out",
        ),
        (
            "{protocol: feature_probe, knn: {temperature: 0.1}}",
            "mine.knn: is not used by feature_probe, only by knn",
        ),
        (
            "{protocol: feature_probe, features: {layers: [13]}}",
            "features.layers: must name blocks of mae_base, each once, from 1 to 12 or -12 to -1, got [13]",
        ),
        ("{protocol: feature_probe, features: {layers: [12, -1]}}", "got [12, -1]"),
        (
            "{protocol: feature_probe, features: {pools: []}}",
            "features.pools: must name mean or class_token or both, each once, got []",
        ),
        (
            "{protocol: feature_probe, features: {drawn_views: 3}}",
            "eval_batch: must be a multiple of features.drawn_views = 3, whose views stay together, got 64",
        ),
        (
            "{protocol: feature_probe, features: {validation_share: 1}}",
            "features.validation_share: must be less than 1, got 1",
        ),
        (
            "{protocol: feature_probe, heads: {base_lrs: [0.1, 0]}}",
            "heads.base_lrs: must be numbers, each once and greater than 0, got [0.1, 0.0]",
        ),
        (
            "{protocol: feature_probe, heads: {weight_decays: [-1]}}",
            "heads.weight_decays: must be numbers, each once and at least 0, got [-1.0]",
        ),
        ("{protocol: feature_probe, heads: {momentum: 1}}", "heads: betas and momentum must lie in [0, 1)"),
        (
            "{protocol: feature_probe, heads: {length: 0 epochs}}",
            "heads.length: must be greater than 0, got '0",
        ),
        (
            "{protocol: feature_probe, heads: {warmup: 40 epochs}}",
            "heads.warmup: must not be longer than the training, '30 epochs', got '40 epochs'",
        ),
        (
            "{protocol: knn, knn: {neighbours: []}}",
            "knn.neighbours: must be numbers of neighbours, each once, got []",
        ),
        ("{protocol: knn, knn: {neighbours: [0]}}", "knn.neighbours: must be greater than 0, got 0"),
        (
            "{protocol: attentive_probe, features: {layers: [6, 12]}}",
            "features.layers: attentive_probe keeps all tokens of one layer, got [6, 12]; [-1] would do",
        ),
        (
            "{protocol: attentive_probe, features: {pools: [class_token]}}",
            "features.pools: is not used by attentive_probe, which keeps all tokens; leave it out",
        ),
        (
            "{protocol: attentive_probe, attentive: {heads: 5}}",
            "attentive.heads: must divide 768, the width of mae_base, got 5",
        ),
        (
            "{protocol: attentive_probe, heads: {kind: lars}}",
            "heads.kind: lars is for linear heads, got attentive_probe; adamw or sgd would do",
        ),
    ],
)
def test_a_contradiction_is_explained(evaluation, problem):
    message = mistakes("pretrain/in1k", CATALOG, f"evaluations.mine={evaluation}")
    assert problem in message
    assert "1 problem(s)" in message


def test_a_class_token_that_a_model_does_not_have_is_no_feature():
    setting = "evaluations.mine={protocol: feature_probe, features: {pools: [class_token]}}"
    assert "class_token, but videomae_base has none; mean would do" in mistakes(
        "pretrain/k400", CATALOG, setting
    )


def test_a_protocol_on_the_stream_cannot_do_without_its_training():
    message = mistakes("pretrain/in1k", CATALOG, "evaluations.finetune.train=null")
    assert (
        "evaluations.finetune.train: required by finetune, got null; give its length, batches and" in message
    )
