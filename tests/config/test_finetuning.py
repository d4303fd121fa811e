"""Mistakes about fine-tuning are found before anything starts."""

from __future__ import annotations

import pytest

from mae_dist.config.load import load
from tests.config.small import CATALOG, mistakes


@pytest.mark.parametrize("given", [0, 0.5, 1, 4, 11.5, 12, None])
def test_some_of_the_last_blocks_may_be_fine_tuned(given):
    text = "null" if given is None else given
    config = load("pretrain/in1k", [CATALOG, f"evaluations.finetune.trainable_blocks={text}"])
    assert config.evaluations["finetune"].trainable_blocks == given


@pytest.mark.parametrize("given", [0.25, 12.5, 24])
def test_blocks_that_are_not_there_are_told(given):
    found = mistakes("pretrain/in1k", CATALOG, f"evaluations.finetune.trainable_blocks={given}")
    assert (
        "evaluations.finetune.trainable_blocks: must be 0, 0.5 (the MLP of the last block), 1, 1.5, ... up "
        f"to 12, the blocks of mae_base, or null for everything; got {given:g} (from --set"
    ) in found


def test_a_negative_number_of_blocks_is_told():
    found = mistakes("pretrain/in1k", CATALOG, "evaluations.finetune.trainable_blocks=-1")
    assert "evaluations.finetune.trainable_blocks: must be at least 0, got -1" in found


@pytest.mark.parametrize("evaluation", ["linear_probe", "{protocol: knn}", "{extends: finetune/ava}"])
def test_protocols_that_train_no_blocks_or_all_of_them_refuse_a_number(evaluation):
    name = "mine" if evaluation.startswith("{") else evaluation
    settings = [f"evaluations.mine={evaluation}"] if name == "mine" else []
    found = mistakes("pretrain/in1k", CATALOG, *settings, f"evaluations.{name}.trainable_blocks=1")
    assert f"evaluations.{name}.trainable_blocks: is not used by " in found
    assert "got 1; null, or protocol finetune" in found


BASELINE = "evaluations.finetune.baseline=scratch"
FROM_SCRATCH = "evaluations.scratch={extends: finetune/in1k_scratch}"


def test_an_evaluation_may_be_compared_with_training_from_scratch_by_another_recipe():
    only_pretrained = "evaluations.finetune.start_from=[pretrained]"
    config = load("pretrain/in1k", [CATALOG, only_pretrained, FROM_SCRATCH, BASELINE])
    assert config.evaluations["finetune"].baseline == "scratch"


def test_a_baseline_that_is_not_there_or_is_the_second_is_told():
    only_pretrained = "evaluations.finetune.start_from=[pretrained]"
    found = mistakes("pretrain/in1k", CATALOG, only_pretrained, BASELINE)
    assert "finetune.baseline: must be an evaluation that starts from random weights (" in found
    assert "got 'scratch'" in found
    both = "evaluations.finetune.start_from=[pretrained, random]"
    found = mistakes("pretrain/in1k", CATALOG, both, FROM_SCRATCH, BASELINE)
    assert "finetune.baseline: takes the place of its own start from random weights" in found


def test_an_odd_micro_batch_cannot_be_mixed():
    sizes = ["evaluations.finetune.train.micro_batch=1", "evaluations.finetune.head={mixup: 0, cutmix: 1}"]
    found = mistakes("pretrain/in1k", CATALOG, *sizes)
    assert (
        "evaluations.finetune.train.micro_batch: must be even where head.mixup or head.cutmix mixes its "
        "samples in pairs, got 1; 2 would do, or 0 for both"
    ) in found
    load("pretrain/in1k", [CATALOG, sizes[0], "evaluations.finetune.head={mixup: 0, cutmix: 0}"])


def test_frames_spread_over_the_whole_video_have_no_rate():
    found = mistakes("pretrain/k400", CATALOG, "input.sample_fps=4", "evaluations.finetune.sampling=uniform")
    assert (
        "evaluations.finetune.sampling: uniform does not use input.sample_fps, got 4.0; null there, or dense "
        "(from --set evaluations.finetune.sampling=uniform)"
    ) in found


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        (
            "linear_probe.robustness.a={catalog: a}",
            "linear_probe.robustness: is not used by linear_probe; leave it out, or protocol finetune",
        ),
        (
            "finetune.robustness={a/b: {catalog: a}}",
            "finetune.robustness.a/b: becomes part of a folder's name: letters, digits, '-' and '_' only",
        ),
        (
            "finetune.robustness.a.views={clips: 3}",
            "finetune.eval_batch: must be a multiple of robustness.a.views.clips * crops = 3, whose",
        ),
        (
            "finetune.robustness.a.layout=folders",
            "finetune.robustness.a.layout: must be one of classes, corruptions",
        ),
    ],
)
def test_other_test_sets_are_checked_before_anything_starts(setting, problem):
    assert f"evaluations.{problem}" in mistakes("pretrain/in1k", CATALOG, f"evaluations.{setting}")


def test_the_recipe_knows_imagenets_other_sets_and_leaves_them_out_until_their_place_is_given():
    sets = load("pretrain/in1k", [CATALOG]).evaluations["finetune"].robustness
    assert {name: (its.layout, its.published.value) for name, its in sets.items()} == {
        "c": ("corruptions", 51.7),
        "a": ("classes", 35.9),
        "r": ("classes", 48.3),
        "sketch": ("classes", 34.5),
    }
    assert all(its.catalog is None for its in sets.values())
