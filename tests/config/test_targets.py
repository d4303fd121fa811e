"""Targets in recipes: what goes together, and how many values there are."""

from __future__ import annotations

import pytest

from mae_dist.config.geometry import ARCHITECTURES
from mae_dist.config.load import load
from mae_dist.config.targets import TargetConfig
from tests.config.small import mistakes

CATALOG = "data.catalog=images"


@pytest.mark.parametrize(
    ("recipe", "settings", "problem"),
    [
        (
            "cifar10",
            ["target.kind=hog"],
            "target.kind: hog needs patches of whole cells of 8 x 8 pixels, those of mae_micro are 4 x 4; "
            "choose another model.size, or another target",
        ),
        (
            "cifar10",
            ["target={kind: pca, components: 49}"],
            "target.components: a patch has 48 values, got 49; at most that many",
        ),
        (
            "in1k",
            ["target={kind: pca, basis_patches: 50}"],
            "target.basis_patches: must be at least target.components = 96, and better a thousand times as "
            "many, got 50",
        ),
        (
            "in1k",
            ["target.kind=token"],
            "target.tokenizer: required for target.kind token; give a run of pretrain/tokenizer, or its",
        ),
        (
            "in1k",
            ["target.tokenizer=runs/tokenizer"],
            "target.tokenizer: is not used by target.kind norm_pixel_mae; leave it out, or target.kind token",
        ),
        (
            "in1k",
            ["target.frames=centre"],
            "target.frames: centre needs videos, and input.frames is 1; same would do",
        ),
        (
            "k400",
            ["target.frames=centre", "mask.predict=running_cell"],
            "mask.predict: target.frames centre says already what is predicted, got running_cell; all would",
        ),
        (
            "k400",
            ["target.frames=centre", "mask={kind: causal, ratio: 0.25}"],
            "target.frames: centre is a frame that mask.kind causal always shows at mask.ratio 0.25; a ratio",
        ),
        (
            "k400",
            ["target.frames=double", "input.frame_stride=3"],
            "input.frame_stride: must be even for target.frames double, which halves it, got 3; 4 would do",
        ),
        (
            "k400",
            ["target.frames=double", "input.sampling=uniform"],
            "target.frames: double needs input.sampling dense, whose frames have a stride; same would do",
        ),
    ],
)
def test_a_target_that_cannot_be_had_is_named(recipe, settings, problem):
    assert problem in mistakes(f"pretrain/{recipe}", CATALOG, *settings)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("tokenizer.temperature=[0.1, 1.0]", "tokenizer.temperature: must not rise, got [0.1, 1.0]"),
        ("tokenizer.vocabulary=1", "tokenizer.vocabulary: must be at least 2, got 1"),
        ("weights=runs/mae", "weights: does not go with tokenizer, which trains weights of its own"),
        (
            "start.weights=runs/mae",
            "start.weights: does not go with tokenizer, which begins as it is drawn",
        ),
        (
            "target.kind=pca",
            "target: does not go with tokenizer, which predicts nothing; leave one of them out",
        ),
        (
            "evaluations.probe={extends: probe/in1k}",
            "evaluations: a tokenizer is not evaluated; --set evaluations={} for none, or leave tokenizer",
        ),
    ],
)
def test_what_does_not_go_with_a_tokenizer_is_named(setting, problem):
    assert problem in mistakes("pretrain/tokenizer", CATALOG, setting)


def test_weights_that_are_given_need_no_tokenizer():
    load("pretrain/in1k", [CATALOG, "target.kind=token", "weights=runs/mae"])


@pytest.mark.parametrize(
    "settings",
    [
        ["target={kind: pca}"],
        ["target={kind: hog}"],
        ["target={kind: token, tokenizer: runs/tokenizer}"],
        ["target.frames=centre"],
        ["target.frames=centre", "mask={kind: causal, ratio: 0.5}"],
        ["target.frames=double"],
        ["target.frames=double", "input.sample_fps=7.5", "input.frame_stride=1"],
    ],
)
def test_targets_of_the_papers_fit_their_recipes(settings):
    load("pretrain/k400", [CATALOG, *settings])


@pytest.mark.parametrize(
    ("target", "values"),
    [
        (TargetConfig(), None),
        (TargetConfig(kind="hog"), 108),  # MaskFeat: 2 x 2 cells, 3 channels, 9 orientations
        (TargetConfig(kind="pca"), 96),
        (TargetConfig(kind="token"), 8192),
    ],
)
def test_an_image_of_16_pixels_patches_has_the_papers_values(target, values):
    assert target.num_values(ARCHITECTURES["mae_base"]) == values
