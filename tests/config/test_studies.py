"""Study files: what they hold, and what is said about one that contradicts itself."""

from __future__ import annotations

import pytest

from mae_dist.config.load import load_study
from mae_dist.config.problems import ConfigError
from mae_dist.config.studies import DATA_SETS, slug
from mae_dist.config.tree import recipe_names, study_names
from mae_dist.report import published

SMALL = """\
title: Decoder depth
source: arXiv 2111.06377, table 1a
heading: blocks
axis: [model.decoder_depth]
default: "8"
columns:
  finetune: {heading: fine-tuning, data: in1k, recipe: pretrain/in1k, evaluation: finetune}
values:
  "1": {settings: [model.decoder_depth=1], published: {finetune: 84.8}}
  "8": {published: {finetune: 84.9}}
"""


def complaint(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_study(name)
    return str(caught.value)


@pytest.mark.parametrize("name", study_names())
def test_a_packaged_study_is_whole_and_every_row_of_it_is_told_of_the_paper(name):
    study = load_study(name)
    assert study.source.startswith("arXiv ")
    for label, value in study.values.items():
        assert value.published or value.remark, label


def test_studies_are_no_recipes():
    assert "mae/decoder_depth" in study_names()
    assert not [name for name in recipe_names() if "decoder_depth" in name]


def test_the_tables_of_the_papers_are_there():
    published_in = {name: load_study(name).values for name in study_names()}
    assert published_in["mae/decoder_depth"]["1"].published == {"finetune": 84.8, "linear": 65.5}
    assert published_in["mae/mask_ratio"]["75"].published == {"finetune": 84.9, "linear": 73.5}
    assert published_in["videomae/mask"]["tube 90 %"].published == {"ssv2": 69.6, "k400": 80.0}


def test_what_was_read_off_a_figure_says_so():
    values = load_study("mae/mask_ratio").values
    assert values["20"].approximate == ("finetune", "linear")
    assert values["75"].approximate == ()


def test_the_data_sets_of_studies_are_those_of_the_leaderboard():
    assert {key: known.name for key, known in published.DATA_SETS.items()} == DATA_SETS


def test_an_unknown_study_is_answered_with_one_that_exists():
    assert complaint("mae/decoder_dept").splitlines() == [
        "mae/decoder_dept: 1 problem(s)",
        "  no study 'mae/decoder_dept'; did you mean 'mae/decoder_depth'?",
    ]


def test_a_study_of_the_users_own_is_read_from_its_file(write):
    assert list(load_study(write(SMALL)).values) == ["1", "8"]


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("title: Dec", "titel: Dec", "titel: no such field; did you mean 'title'?"),
        ('default: "8"', 'default: "9"', "default: must be one of the values, 1, 8, got '9'"),
        ("{finetune: 84.8}", "{linear: 65.5}", "values.1.published: must be of finetune, got 'linear'"),
        (
            "[model.decoder_depth=1]",
            "[model.decoder_width=64]",
            "values.1.settings: model.decoder_width=64: is not of the axis, model.decoder_depth",
        ),
        (
            ", evaluation: finetune}",
            "}",
            "columns.finetune: needs evaluation, or says in `unavailable` why there is no such number",
        ),
        (
            ", data: in1k",
            ", unavailable: not here, data: in1k",
            "columns.finetune: is unavailable, and yet names data, recipe, evaluation; leave them out",
        ),
        (
            "{settings: [model.decoder_depth=1]",
            "{unavailable: not here, settings: [model.decoder_depth=1]",
            "values.1: is unavailable, and yet says how it is run; leave one of them out",
        ),
        ('"8": {pub', '"1-": {pub', "values.1-: needs letters or digits of its own, which name its"),
        ("data: in1k", "data: in2k", "columns.finetune.data: must be one of in1k, k400, ssv2"),
    ],
)
def test_a_contradiction_is_told_with_what_would_be_right(write, was, becomes, said):
    assert was in SMALL
    text = SMALL.replace(was, becomes).replace('default: "8"\n', "" if "1-" in becomes else 'default: "8"\n')
    assert said in complaint(write(text))


def test_a_label_becomes_part_of_a_name():
    assert slug("tube 90 %") == "tube_90"
    assert slug("0.5") == "0_5"
