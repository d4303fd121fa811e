"""Which steps other test sets are, and what is found wrong with them before anything starts."""

from __future__ import annotations

import pytest

from mae_dist.config.load import load
from mae_dist.config.schema import RunConfig
from mae_dist.orchestrate.preflight import PreflightError, check_inputs, robustness_input
from tests.orchestrate.test_experiment import INPUTS, demo, keys_of, steps_of
from tests.orchestrate.test_preflight import save_catalog

SETS = "evaluations.finetune.robustness={a: {catalog: somewhere}, r: {catalog: elsewhere}, c: {}}"
FOUND = INPUTS | {robustness_input("finetune", name): f"digest of {name}" for name in "ar"}


def test_each_set_is_scored_after_each_fine_tuning_and_those_without_a_place_are_left_out():
    steps = steps_of(demo(SETS), FOUND)
    added = steps.keys() - steps_of(demo()).keys()
    assert added == {f"finetune.{name}-{start}" for name in "ar" for start in ("pretrained", "random")}
    for start in ("pretrained", "random"):
        assert [step.name for step in steps[f"finetune.a-{start}"].needs] == [f"finetune-{start}"]
    assert steps["finetune.a-random"].output == "evaluations/finetune.a-random"


def test_a_set_that_is_added_repeats_no_fine_tuning():
    before, after = keys_of(demo()), keys_of(demo(SETS), FOUND)
    assert {name: after[name] for name in before} == before


def test_other_samples_or_answers_repeat_that_set_alone():
    before = keys_of(demo(SETS), FOUND)
    samples = keys_of(demo(SETS), FOUND | {robustness_input("finetune", "a"): "another digest"})
    answers = keys_of(demo(SETS, "evaluations.finetune.robustness.a.answers=all"), FOUND)
    for after in (samples, answers):
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {"finetune.a-pretrained", "finetune.a-random"}


@pytest.fixture
def config(tmp_path):
    samples = save_catalog(tmp_path, [0, 1, 2], ["ant", "bee", "cat"])

    def config(*settings: str) -> RunConfig:
        given = [f"data.catalog={samples}", f"data.test_catalog={samples}", f"storage={tmp_path / 'runs'}"]
        return load("pretrain/demo", [*given, *settings])

    return config


def refusal(config: RunConfig) -> list[str]:
    with pytest.raises(PreflightError) as caught:
        check_inputs(config)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def other(uri: str, **settings: str) -> list[str]:
    path = "evaluations.finetune.robustness.a"
    return [f"{path}.catalog={uri}", *(f"{path}.{name}={value}" for name, value in settings.items())]


def test_some_of_the_trained_classes_will_do(config, tmp_path):
    uri = save_catalog(tmp_path, [0, 1], ["bee", "cat"], "other.parquet")
    assert check_inputs(config(*other(uri))).digests[robustness_input("finetune", "a")]


def test_classes_that_were_not_trained_are_told_by_field(config, tmp_path):
    uri = save_catalog(tmp_path, [0, 1], ["bee", "hound"], "other.parquet")
    [problem] = refusal(config(*other(uri)))
    assert problem.startswith(
        "evaluations.finetune.robustness.a.catalog: 1 of its 2 classes were not trained ('hound'; trained"
    )
    (tmp_path / "names.csv").write_text("hound,cat\n")
    check_inputs(config(*other(uri, class_names=f"{tmp_path}/names.csv")))


def test_names_that_are_read_are_part_of_what_the_result_depends_on(config, tmp_path):
    uri = save_catalog(tmp_path, [0, 1], ["bee", "cat"], "other.parquet")
    (tmp_path / "names.csv").write_text("unused,ant\n")
    name = robustness_input("finetune", "a")
    plain = check_inputs(config(*other(uri))).digests[name]
    named = check_inputs(config(*other(uri, class_names=f"{tmp_path}/names.csv"))).digests[name]
    assert plain != named


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "catalog: nowhere: no such file or folder"),
        ({"class_names": "nothing.csv"}, "class_names: nothing.csv: "),
    ],
)
def test_places_that_are_not_there_are_told_by_field(config, tmp_path, settings, problem):
    uri = save_catalog(tmp_path, [0, 1], ["bee", "cat"], "other.parquet") if settings else "nowhere"
    [found] = refusal(config(*other(uri, **settings)))
    assert found.startswith(f"evaluations.finetune.robustness.a.{problem}")


def test_samples_without_labels_cannot_be_scored(config, tmp_path):
    uri = save_catalog(tmp_path, [-1], [], "other.parquet")
    assert refusal(config(*other(uri))) == [
        "evaluations.finetune.robustness.a.catalog: its samples have no labels, and nothing can be scored on "
        "them"
    ]


def test_a_catalog_that_is_not_of_corruptions_is_told(config, tmp_path):
    uri = save_catalog(tmp_path, [0, 1], ["bee", "cat"], "other.parquet")
    assert refusal(config(*other(uri, layout="corruptions"))) == [
        "evaluations.finetune.robustness.a.catalog: its samples are not of the kind corruptions; name the "
        "folder, or a catalog of `mae-dist catalog build --kind corruptions`"
    ]
