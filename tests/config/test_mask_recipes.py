"""The masks of the papers are recipes of their own."""

from __future__ import annotations

import pytest

from mae_dist.config.load import load

CATALOG = "data.catalog=videos"


@pytest.mark.parametrize(
    ("recipe", "name", "kept"),
    [
        # Of 196 patches (MAE) and of 8 x 196 (VideoMAE).
        ("in1k", "random", 49),
        ("in1k", "block", 49),
        ("in1k", "grid", 49),
        ("k400", "tube", 160),
        ("k400", "random_spacetime", 156),
        ("k400", "frame", 196),
        ("k400", "causal", 392),
        ("k400", "multi_block", 160),
        ("k400", "running_cell", 160),
    ],
)
def test_the_masks_of_the_papers_are_names(recipe, name, kept):
    config = load(f"pretrain/{recipe}", [CATALOG, f"mask.extends=mask/{name}"])
    assert config.mask.num_kept(config.grid) == kept


def test_a_running_cell_says_what_the_decoder_predicts():
    config = load("pretrain/k400", [CATALOG, "mask.extends=mask/running_cell"])
    assert (config.mask.predict, config.mask.num_predicted(config.grid)) == ("running_cell", 784)
