"""Which runs a study consists of, and which of its cells share one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mae_dist import storage
from mae_dist.config.load import load_study
from mae_dist.config.problems import ConfigError
from mae_dist.config.studies import DATA_SETS
from mae_dist.config.tree import study_names
from mae_dist.model.tokenizer import TokenizerCard, to_bytes, tokenizer_of
from mae_dist.model.weights.header import exported_weights
from mae_dist.orchestrate.study import StudyPlan, StudyRequest, describe_plan, plan_study, run_labels
from tests.orchestrate.test_given import export
from tests.orchestrate.test_preflight import save_catalog
from tests.train.test_packaged_recipes import clips, masks, take_a_step


@pytest.fixture
def data(tmp_path) -> dict[str, tuple[str, str]]:
    """A catalog of training and one of test samples for every data set."""
    labels, classes = [0, 1, 0, 1], ["cat", "dog"]
    return {
        name: tuple(save_catalog(tmp_path, labels, classes, f"{name}-{part}.parquet") for part in ("a", "b"))
        for name in DATA_SETS
    }


@pytest.fixture
def planned(tmp_path, data):
    """The plan of a packaged study."""

    def planned(name: str, scale: str = "mini", **options) -> StudyPlan:
        request = StudyRequest(name=name, scale=scale, storage=str(tmp_path / "runs"), data=data, **options)
        return plan_study(load_study(name), request)

    return planned


@pytest.mark.parametrize("scale", ["mini", "full"])
@pytest.mark.parametrize("name", study_names())
def test_every_cell_has_a_run_or_a_reason(planned, name, scale):
    study, plan = load_study(name), planned(name, scale)
    cells = {(value, column) for value in study.values for column in study.columns}
    assert plan.places.keys() | plan.reasons.keys() == cells
    assert not plan.places.keys() & plan.reasons.keys()
    assert {cell for run in plan.runs for cell in run.cells} == plan.places.keys()
    for run in plan.runs:
        there = {plan.places[cell].evaluation for cell in run.cells}
        assert there == run.config.evaluations.keys()


def test_values_that_differ_in_pretraining_are_runs_of_their_own(planned):
    plan = planned("mae/decoder_depth")
    assert [run_labels(run) for run in plan.runs] == [["1"], ["2"], ["4"], ["8"], ["12"]]
    assert [run.config.model.architecture.decoder.depth for run in plan.runs] == [1, 2, 4, 8, 12]
    assert all(set(run.config.evaluations) == {"finetune", "linear_probe"} for run in plan.runs)


def test_values_that_differ_in_evaluation_alone_share_the_pretraining(planned):
    [run] = planned("mae/partial_ft", "full").runs
    assert {name: its.trainable_blocks for name, its in run.config.evaluations.items()} == {
        "linear_probe": None,
        "finetune-0_5": 0.5,
        "finetune-1": 1,
        "finetune-4": 4,
        "finetune": None,
    }


def test_a_value_may_have_a_recipe_of_its_own_at_full_scale(planned):
    plan = planned("videomae/sizes_ssv2", "full")
    assert [run.config.model.size for run in plan.runs] == [
        "videomae_small",
        "videomae_base",
        "videomae_large",
    ]


def test_the_papers_choice_is_one_run_for_all_studies_that_have_it(planned):
    usual = set()
    for name in study_names():
        study, plan = load_study(name), planned(name, "full")
        for (value, column), place in plan.places.items():
            if value == study.default and study.columns[column].recipe == "studies/base_mae":
                usual.add(place.run_directory)
    assert len(usual) == 1


def test_scratch_is_evaluated_from_random_weights(planned):
    plan = planned("videomae/methods")
    assert plan.places["scratch", "ssv2"].start_from == "random"
    assert plan.places["VideoMAE", "ssv2"].start_from == "pretrained"
    assert plan.places["scratch", "ssv2"].run_directory == plan.places["VideoMAE", "ssv2"].run_directory


def test_what_was_published_of_a_recipe_is_not_said_of_a_changed_one(planned):
    runs = planned("videomae/loss", "full", columns=["ssv2"]).runs
    published = {run_labels(run)[0]: run.config.evaluations["finetune"].published for run in runs}
    assert published["L1"] is None
    assert published["MSE"] is not None


def test_what_cannot_be_had_keeps_its_row_and_says_why(planned):
    plan = planned("videomae/methods")
    assert plan.reasons["MoCo v3", "ssv2"] == "not available: another method"
    assert plan.reasons["VideoMAE", "k400"] == "not measured at mini scale"


def test_values_and_columns_can_be_chosen(planned):
    plan = planned("mae/decoder_depth", values=["1", "8"], columns=["linear"])
    assert [run.cells for run in plan.runs] == [(("1", "linear"),), (("8", "linear"),)]
    assert [list(run.config.evaluations) for run in plan.runs] == [["linear_probe"]] * 2


def test_the_number_of_a_value_that_is_not_asked_for_is_still_looked_for(planned):
    asked, whole = planned("mae/decoder_depth", values=["1"]), planned("mae/decoder_depth")
    assert asked.places == whole.places


def test_where_the_samples_of_other_columns_lie_need_not_be_said(planned, data):
    del data["k400"]
    plan = planned("videomae/loss", "full", columns=["ssv2"])
    assert plan.reasons["L1", "k400"] == "not asked for"


def test_a_value_waits_for_the_weights_of_another_run(planned, tmp_path):
    plan = planned("videomae/pretrain_data", "full")
    [k400] = [run for run in plan.runs if run.config.name == "videomae_base_k400" and run.cells]
    assert plan.reasons["K400", "ssv2"] == f"waits for the weights of {k400.uri}"
    assert [label for run in plan.runs for label in run_labels(run)] == ["K400", "SSv2"]


def test_a_pretraining_that_serves_others_alone_is_planned_without_evaluations(planned):
    plan = planned("videomae/transfer", "full")
    [run] = plan.runs
    assert (run.cells, run.config.evaluations) == ((), {})
    assert "weights for others; " in describe_plan(plan)[0]


def test_mistakes_are_told_all_at_once(planned):
    with pytest.raises(ConfigError) as caught:
        planned("mae/decoder_depth", values=["80"], columns=["lineal"])
    assert str(caught.value).splitlines() == [
        "mae/decoder_depth: 2 problem(s)",
        "  no value '80'; did you mean '8'? (from --value 80)",
        "  no column 'lineal'; did you mean 'linear'? (from --column lineal)",
    ]


def test_a_wrong_setting_is_told_once_for_all_runs(planned):
    with pytest.raises(ConfigError, match=r"1 problem\(s\)\n  mask.rato: no such field"):
        planned("mae/decoder_depth", settings=["mask.rato=0.5"])


def test_a_data_set_that_nobody_named_is_asked_for(planned, data):
    del data["k400"]
    with pytest.raises(ConfigError) as caught:
        planned("videomae/loss", "full")
    assert str(caught.value).splitlines() == [
        "videomae/loss: 1 problem(s)",
        "  where Kinetics-400 lies is not known; give --data k400=TRAIN,TEST, or other columns with --column",
    ]


def test_the_cost_of_every_run_and_of_all_is_told(planned):
    first, second, last = describe_plan(planned("mae/decoder_depth", values=["1", "8"], columns=["finetune"]))
    assert [line.partition("  ")[2].partition(";")[0] for line in (first, second)] == ["1", "8"]
    assert "samples seen" in first
    assert last.startswith("2 runs, one after the other; in all ")


TRANSFER = """\
title: Transfer
source: arXiv 2203.12602, table 4
heading: pretrained on
axis: [weights]
columns:
  finetune:
    {heading: top-1, data: in1k, recipe: pretrain/in1k, mini: studies/base_mae_mini, evaluation: finetune}
values:
  the same: {published: {finetune: 60.0}}
  another set:
    pretraining: {data: k400, recipe: pretrain/k400, mini: other.yaml}
    published: {finetune: 50.0}
"""
OTHER = """\
extends: studies/base_mae_mini.yaml
name: other
data: {catalog: "drawn://glyphs?samples=100&seed=9"}
"""


def test_a_value_that_waited_is_evaluated_on_the_weights_that_another_run_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "transfer.yaml").write_text(TRANSFER)
    (tmp_path / "other.yaml").write_text(OTHER)
    request = StudyRequest(name="transfer.yaml", scale="mini", storage=str(tmp_path / "runs"))
    study = load_study("transfer.yaml")
    first = plan_study(study, request)
    [own, other] = first.runs
    assert (other.config.name, other.cells, first.is_final) == ("other", (), False)
    export(Path(other.uri), other.config)
    later = plan_study(study, request)
    assert later.is_final
    [run] = [run for run in later.runs if run.uri not in (own.uri, other.uri)]
    assert run.config.weights == other.uri
    assert run.config.data == own.config.data
    assert run_labels(run) == ["another set"]


# What else than pixels can be predicted has tests of its own, with the files that it needs.
@pytest.mark.parametrize("name", [name for name in study_names() if not name.endswith("/target")])
def test_every_run_at_mini_scale_takes_a_step_and_so_do_its_evaluations(planned, name):
    for run in planned(name).runs:
        config = run.config
        losses = [take_a_step(config, None, {"clips": clips(config, config.augment), **masks(config)})]
        for key, its in config.evaluations.items():
            batch = {"clips": clips(config, its.augment), "label": torch.tensor([0, 3]), "block": 0}
            losses += [take_a_step(config, key, batch)] if its.protocol == "finetune" else []
        assert np.isfinite(losses).all()


def test_codes_are_predicted_once_a_tokenizer_is_trained(tmp_path):
    request = StudyRequest(name="mae/target", scale="mini", storage=str(tmp_path), values=["dVAE tokens"])
    study = load_study("mae/target")
    [first] = plan_study(study, request).runs
    config = first.config
    assert config.tokenizer is not None
    card = TokenizerCard(
        patch=config.model.architecture.patch,
        vocabulary=config.tokenizer.vocabulary,
        width=config.tokenizer.width,
        blocks=config.tokenizer.blocks,
        mean=config.input.mean,
        std=config.input.std,
    )
    storage.write_bytes(exported_weights(first.uri), to_bytes(tokenizer_of(card).state_dict(), card))
    plan = plan_study(study, request)
    assert plan.is_final
    [run] = [run for run in plan.runs if run.uri != first.uri]
    assert run.config.target.tokenizer == first.uri
    assert set(run.config.evaluations) == {"finetune", "linear_probe"}
