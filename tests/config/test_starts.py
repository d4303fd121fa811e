"""Where a pretraining starts: what a recipe may say of it."""

from __future__ import annotations

import pytest

from mae_dist.config.load import from_dict, load, to_dict
from tests.config.small import SMALL, mistakes

RECIPE = "pretrain/k400"
NEEDED = ("data.catalog=videos",)


def problems(*settings: str) -> list[str]:
    return [line.strip() for line in mistakes(RECIPE, *NEEDED, *settings).splitlines()[1:]]


def test_a_recipe_draws_its_weights_unless_it_says_more(write):
    assert load(write(SMALL)).start.weights is None


@pytest.mark.parametrize("name", ["pretrain/k400_from_in1k", "pretrain/ssv2_from_k400"])
def test_recipes_that_start_from_weights_are_read_and_written(name):
    config = load(name, [*NEEDED, "start.weights=s3://bucket/run"])
    assert config.start.weights == "s3://bucket/run"
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            ["start.inflate=mean", "start.parts=encoder"],
            "start.inflate: mean, but of which weights? give --set start.weights=URI (from",
        ),
        (
            ["start.weights=a", "weights=b"],
            "start.weights: is not used beside `weights`, which nothing is pretrained from; null for one of",
        ),
        (
            ["start.weights=a", "start.inflate=center"],
            "start.parts: all, but an image model's decoder predicts no tubelets; encoder goes with",
        ),
        (
            ["start.weights=a", "start.parts=encoder", "start.inflate=mean", "model.tubelet=1"],
            "start.inflate: mean, but patches are of one frame each; null, or model.tubelet=2",
        ),
        (["start.weights=a", "start.inflate=sum"], "start.inflate: must be one of mean, center, got 'sum'"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings, problem):
    assert any(line.startswith(problem) for line in problems(*settings)), problems(*settings)
