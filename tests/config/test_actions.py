"""Mistakes about action detection are found before anything starts."""

from __future__ import annotations

import pytest

from mae_dist.config.detection import AVA_ACTIONS
from mae_dist.config.load import load
from mae_dist.config.problems import ConfigError
from tests.config.small import CATALOG

AVA = [CATALOG, "evaluations={ava: {extends: finetune/ava.yaml}}"]


def complaint(*settings: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load("pretrain/k400", [*AVA, *settings])
    return str(caught.value)


def test_the_recipe_has_the_authors_numbers():
    ava = load("pretrain/k400", AVA).evaluations["ava"]
    assert ava.train.peak_lr == pytest.approx(1.25e-4)  # 2.5e-4 at a batch of 128, by 256
    assert len(AVA_ACTIONS) == len(set(AVA_ACTIONS)) == 60
    assert ava.detection.actions == AVA_ACTIONS


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        (
            "augment.rand_augment=rand-m9",
            "augment.rand_augment: turns and shifts the pixels but not the boxes of detect, got 'rand-m9'",
        ),
        (
            "head.mixup=0.8",
            "head.mixup: is not used by detect, whose answers are many, got 0.8; 0 would do",
        ),
        (
            "head.label_smoothing=0.1",
            "head.label_smoothing: is not used by detect, whose answers are many, got 0.1; 0 would do",
        ),
        (
            "labels_per_class=10",
            "labels_per_class: is not used by detect, whose keyframes have several labels, got 10; null",
        ),
        ("views={clips: 2}", "views: detect looks at the whole frame of one clip, got 2 x 1 views; 1 x 1"),
        (
            "views={side: 0.875}",
            "views.side: is not used by detect, which looks at the whole frame, got 0.875; 1 would do",
        ),
        (
            "train.compile=true",
            "train.compile: does not go with detect, whose batches differ in their number",
        ),
        (
            "detection.test_height=8",
            "detection.test_height: must be at least 16, the patch of videomae_base, got 8",
        ),
        (
            "detection.actions=[3, 3]",
            "detection.actions: must name actions, each once, or be null for all; got [3, 3]",
        ),
        ("detection.min_score=80", "detection.min_score: must be at most 1, got 80"),
        (
            "augment.side=[0.9, 0.5]",
            "augment.side: must be two sides with 0 < smaller <= larger <= 1, got [0.9, 0.5]",
        ),
        (
            "augment.color_jitter=[-20, 0.1, 0.1]",
            "augment.color_jitter: must be at least 0, or null, got [-20.0, 0.1, 0.1]",
        ),
        ("protocol=finetune", "detection: is not used by finetune; leave it out, or protocol detect"),
    ],
)
def test_settings_that_do_not_go_with_boxes_are_named(setting, problem):
    extra = ["evaluations.ava.detection.boxes=people.csv"] if setting == "protocol=finetune" else []
    assert f"evaluations.ava.{problem}" in complaint(f"evaluations.ava.{setting}", *extra)


def test_a_class_token_is_not_looked_at():
    with pytest.raises(ConfigError, match="is not used by detect, which looks at boxes, got class_token"):
        load("pretrain/in1k", [*AVA, "evaluations.ava.head.pool=class_token"])


def test_a_clip_of_the_whole_video_is_not_around_a_keyframe():
    found = complaint("input.sampling=uniform")
    assert (
        "evaluations.ava.protocol: detect looks at the clip around a keyframe, and input.sampling is" in found
    )


def test_a_mix_has_to_say_which_catalog_has_the_boxes():
    mix = ["data.catalog=null", "data.mix={a: {catalog: x, weight: 1}, b: {catalog: y, weight: 1}}"]
    assert (
        "evaluations.ava.protocol: detect needs one catalog with boxes, got a mix of a, b; say"
        in complaint(*mix)
    )
    assert load("pretrain/k400", [*AVA, *mix, "data.labelled=b"])


def test_nor_is_one_that_the_evaluation_alone_takes_from_the_whole_video():
    assert (
        "evaluations.ava.protocol: detect looks at the clip around a keyframe, and sampling is uniform; dense"
    ) in complaint("evaluations.ava.sampling=uniform")
