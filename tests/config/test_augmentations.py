"""The augmentations of MAE's ablation are recipes of their own."""

from __future__ import annotations

import pytest

from mae_dist.config.load import load

CATALOG = "data.catalog=images"


@pytest.mark.parametrize(
    ("name", "crop", "flip", "jitter"),
    [
        ("none", "center", False, None),
        ("crop_fixed", "anywhere", True, None),
        ("crop_random", "random_resized", True, None),
        ("crop_jitter", "random_resized", True, (36, 0.4, 0.4)),
    ],
)
def test_the_augmentations_of_maes_table_are_names(name, crop, flip, jitter):
    its = load("pretrain/in1k", [CATALOG, f"augment.extends=augment/{name}"]).augment
    assert (its.crop, its.flip, its.color_jitter) == (crop, flip, jitter)
    assert its.side == (0.875, 0.875)
