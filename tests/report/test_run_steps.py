"""The steps of a run, as its directory tells them."""

import json

import pytest

from mae_dist.report.run_steps import RunSteps, StepReader, StepState, headline
from mae_dist.storage import StorageError


@pytest.mark.parametrize(
    ("summary", "progress", "words"),
    [
        ({"metric": "frame_map", "value": 26.74, "standard_error": None}, None, "Frame mAP 26.7 %"),
        ({"value": 71.46, "standard_error": 1.52}, {"loss": 0.5}, "Top-1 71.5 ± 1.5 %"),
        ({"model_mse": 0.01234}, None, "error 0.0123"),
        ({"num_samples": 240436}, None, "240,436 samples"),
        ({}, {"step": 3, "total_steps": 9, "text": "train features, block 3/9"}, "train features, block 3/9"),
        ({}, {"step": 9, "total_steps": 9, "text": "train features, block 9/9"}, ""),
        ({}, {"step": 3, "total_steps": 9, "loss": 0.51239}, "loss 0.5124"),
        ({}, {"step": 3, "total_steps": 9, "loss": None}, ""),
        ({}, None, ""),
    ],
)
def test_the_number_of_a_step_is_its_result_or_else_how_far_it_is(summary, progress, words):
    assert headline(summary, progress) == words


def test_without_steps_json_the_steps_are_those_of_the_config_and_of_the_folders(fake_run):
    fake_run.write_config(evaluations=("finetune",))
    fake_run.write("features/random-0a1b2c/BEGUN.json", "{}")
    fake_run.write_done("evaluations/finetune-random")
    found = {step.name: step.state for step in StepReader(fake_run.uri).read().steps}
    assert found == {
        "catalog": "waiting",
        "pretrain": "waiting",
        "test_catalog": "waiting",
        "reconstruction": "waiting",
        "features-0a1b2c-random": "running",
        "finetune-pretrained": "waiting",
        "finetune-random": "done",
        "report": "waiting",
    }


def test_a_run_without_test_samples_evaluates_nothing(fake_run):
    fake_run.write_config(evaluations=("finetune",), data={"catalog": "train"})
    names = [step.name for step in StepReader(fake_run.uri).read().steps]
    assert names == ["catalog", "pretrain", "report"]


def test_what_a_finished_step_came_to_is_read_once_and_again_after_another_attempt(fake_run):
    fake_run.write_config()
    entry = {"name": "probe", "output": "evaluations/probe", "state": "done", "attempt": 1}
    about = {"schema": 1, "written": 1.0}
    fake_run.write("steps.json", json.dumps(about | {"steps": [entry]}))
    fake_run.write("evaluations/probe/DONE.json", json.dumps({"state": "done", "summary": {"value": 60.0}}))
    reader = StepReader(fake_run.uri)
    assert reader.read().steps[0].headline == "Top-1 60.0 %"
    fake_run.write("evaluations/probe/DONE.json", json.dumps({"state": "done", "summary": {"value": 70.0}}))
    assert reader.read().steps[0].headline == "Top-1 60.0 %"
    fake_run.write("steps.json", json.dumps(about | {"steps": [entry | {"attempt": 2}]}))
    assert reader.read().steps[0].headline == "Top-1 70.0 %"


def test_a_steps_json_that_is_no_json_is_named(fake_run):
    fake_run.write_config()
    fake_run.write("steps.json", "{")
    with pytest.raises(StorageError, match=r"steps\.json: is not JSON"):
        StepReader(fake_run.uri).read()


@pytest.mark.parametrize(
    ("states", "is_over", "is_complete"),
    [
        (["done", "kept"], True, True),
        (["done", "failed", "skipped", "cancelled"], True, False),
        (["done", "retrying"], False, False),
        (["done", "interrupted"], False, False),
    ],
)
def test_a_run_is_over_when_no_step_can_change_and_complete_when_all_are_done(states, is_over, is_complete):
    steps = tuple(StepState(name=state, state=state, output=state) for state in states)
    run = RunSteps(uri="runs/demo", name="demo", steps=steps, is_recorded=True)
    assert (run.is_over, run.is_complete) == (is_over, is_complete)


def test_only_what_was_being_done_is_interrupted_when_the_driver_is_gone():
    states = ["waiting", "running", "retrying", "done", "failed"]
    steps = tuple(StepState(name=state, state=state, output=state) for state in states)
    run = RunSteps(uri="runs/demo", name="demo", steps=steps, is_recorded=True)
    found = [step.state for step in run.abandoned().steps]
    assert found == ["waiting", "interrupted", "interrupted", "done", "failed"]
