"""What a run consists of, and what of a recipe decides which result."""

from __future__ import annotations

import dataclasses

import pytest

from mae_dist.config.load import from_dict, load, to_dict
from mae_dist.config.schema import RunConfig
from mae_dist.orchestrate import experiment
from mae_dist.orchestrate.estimate import Work
from mae_dist.orchestrate.experiment import build_steps, describe_steps, prepare, run_uri
from mae_dist.orchestrate.job import Job
from mae_dist.orchestrate.step import Step

INPUTS = {"catalog": "digest of the training samples", "test_catalog": "digest of the test samples"}


def demo(*settings: str) -> RunConfig:
    return load("pretrain/demo", ["storage=runs", *settings])


def steps_of(config: RunConfig, inputs=None, *, use_gpu: bool = False) -> dict[str, Step]:
    return {step.name: step for step in build_steps(config, inputs or INPUTS, use_gpu=use_gpu)}


def keys_of(config: RunConfig, inputs=None) -> dict[str, str]:
    return {name: step.key for name, step in steps_of(config, inputs).items()}


@pytest.mark.parametrize(
    "setting",
    [
        "seed=1",
        "input.frame_stride=1",
        "model.decoder_depth=1",
        "mask.ratio=0.8",
        "target.kind=norm_pixel_videomae",
        "target.frames=double",
        "augment.flip=true",
        "data.limits.pixels=1000",
        "train.length=777 steps",
        "train.optim.weight_decay=0.1",
    ],
)
def test_what_decides_the_pretraining_makes_another_run_directory(setting):
    assert run_uri(demo(setting), INPUTS) != run_uri(demo(), INPUTS)


def test_other_samples_make_another_run_directory():
    assert run_uri(demo(), INPUTS | {"catalog": "other"}) != run_uri(demo(), INPUTS)


@pytest.mark.parametrize(
    "setting",
    [
        "resources.workers=1",
        "resources.engine=torch",
        "data.prefetch_batches=5",
        "checkpoint.keep=9",
        "log.every=3",
        "jobs.retries=0",
        "gallery_samples=1",
        "train.activation_checkpointing=true",
        "train.compile=true",
        "resources.zero_stage=3",
        "evaluations=null",
        "evaluations.finetune.train.length=9 epochs",
    ],
)
def test_where_and_how_it_runs_and_what_follows_make_no_other_run_directory(setting):
    config = demo() if setting == "evaluations=null" else demo(setting)
    if setting == "evaluations=null":
        config = dataclasses.replace(config, evaluations={})
    assert run_uri(config, INPUTS) == run_uri(demo(), INPUTS)
    assert keys_of(config)["pretrain"] == keys_of(demo())["pretrain"]


def test_the_run_directory_bears_the_name_and_lies_in_the_storage():
    here, there = run_uri(demo(), INPUTS), run_uri(demo("storage=s3://bucket/runs", "name=demo"), INPUTS)
    assert here.startswith("runs/demo-")
    assert there == "s3://bucket/" + here


def test_a_config_read_back_from_its_run_directory_belongs_to_the_same_one():
    assert run_uri(from_dict(to_dict(demo())), INPUTS) == run_uri(demo(), INPUTS)


def test_every_step_comes_after_what_it_waits_for():
    seen: set[str] = set()
    for step in build_steps(demo(), INPUTS, use_gpu=False):
        assert {other.name for other in (*step.needs, *step.after)} <= seen
        seen.add(step.name)


def test_the_steps_of_a_run_and_what_they_wait_for():
    waits = {
        name: ([other.name for other in step.needs], [other.name for other in step.after])
        for name, step in steps_of(demo()).items()
    }
    samples = ["catalog", "test_catalog"]
    before_report = [
        "catalog",
        "pretrain",
        "test_catalog",
        "reconstruction",
        "linear_probe-pretrained",
        "linear_probe-random",
        "finetune-pretrained",
        "finetune-random",
    ]
    assert waits == {
        "catalog": ([], []),
        "pretrain": (["catalog"], []),
        "test_catalog": ([], []),
        "reconstruction": (["pretrain", "test_catalog"], []),
        "linear_probe-pretrained": ([*samples, "pretrain"], []),
        "linear_probe-random": (samples, ["pretrain"]),
        "finetune-pretrained": ([*samples, "pretrain"], []),
        "finetune-random": (samples, ["pretrain"]),
        "report": ([], before_report),
    }


def test_no_two_steps_write_into_one_folder():
    outputs = [step.output for step in build_steps(demo(), INPUTS, use_gpu=False)]
    assert len(set(outputs)) == len(outputs)


def test_without_test_samples_there_is_a_pretraining_and_a_report():
    config = demo("data.test_catalog=null")
    assert list(steps_of(dataclasses.replace(config, evaluations={}))) == ["catalog", "pretrain", "report"]


def test_the_baseline_does_not_depend_on_the_pretraining_and_the_evaluation_does():
    before, after = keys_of(demo()), keys_of(demo("train.length=500 steps", "mask.ratio=0.8"))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"pretrain", "reconstruction", "linear_probe-pretrained", "finetune-pretrained"}


def test_a_change_to_one_evaluation_repeats_that_one_alone():
    before, after = keys_of(demo()), keys_of(demo("evaluations.finetune.head.dropout=0.1"))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"finetune-pretrained", "finetune-random"}


def test_a_starting_point_that_is_added_does_not_repeat_the_other():
    alone = keys_of(demo("evaluations.finetune.start_from=[pretrained]"))
    both = keys_of(demo())
    assert "finetune-random" not in alone
    assert alone["finetune-pretrained"] == both["finetune-pretrained"]


def test_other_test_samples_repeat_what_is_scored_on_them_and_not_the_pretraining():
    before, after = keys_of(demo()), keys_of(demo(), INPUTS | {"test_catalog": "other"})
    kept = {name for name in before if before[name] == after[name]}
    assert kept == {"catalog", "pretrain", "report"}


def test_training_steps_hold_their_workers_and_one_decode_task_and_gpus_where_there_are_some():
    """Two workers of one CPU, one for the probes, and decode tasks of half a CPU."""
    workers = [
        "resources.workers=2",
        "evaluations.finetune.workers=null",
        "evaluations.linear_probe.workers=1",
    ]
    config = demo(*workers, "resources.cpus_per_worker=1", "data.cpus_per_task=0.5")
    on_cpus, on_gpus = steps_of(config), steps_of(config, use_gpu=True)
    for name, held in [("pretrain", 2), ("finetune-random", 2), ("linear_probe-random", 1)]:
        assert (on_cpus[name].demand.cpus, on_cpus[name].demand.gpus) == (held + 0.5, 0)
        assert (on_gpus[name].demand.cpus, on_gpus[name].demand.gpus) == (held + 0.5, held)
    assert on_gpus["catalog"].demand.gpus == 0


def test_a_training_with_a_range_of_workers_holds_the_least_and_evaluations_too():
    config = demo(
        "resources.workers=[1, 2]", "resources.cpus_per_worker=1", "evaluations.finetune.workers=null"
    )
    steps = steps_of(config, use_gpu=True)
    assert [steps[name].demand.gpus for name in ("pretrain", "finetune-random")] == [1, 1]


def test_the_description_is_one_line_per_step_with_what_it_holds_and_waits_for():
    config = demo("resources.workers=2", "resources.cpus_per_worker=1", "data.cpus_per_task=0.5")
    work = {"pretrain": Work(passes=175_000, operations=2_500_000_000)}
    lines = describe_steps(build_steps(config, INPUTS, use_gpu=True), work).splitlines()
    assert lines[0].split() == ["catalog", "1", "CPUs,", "0", "GPUs;", "after", "nothing"]
    assert " ".join(lines[1].split()) == (
        "pretrain 2.5 CPUs, 2 GPUs; after catalog; 175,000 samples seen, 2.5 GFLOP"
    )
    assert len(lines) == 9
    decoded = describe_steps(build_steps(demo("data.decode_resource=decode"), INPUTS, use_gpu=False), {})
    assert decoded.splitlines()[1].split()[1:7] == ["2", "CPUs,", "0", "GPUs,", "1", "decode;"]


@pytest.mark.parametrize(("setting", "num_told"), [("log.mlflow=null", 0), ("log.mlflow=http://tracking", 1)])
def test_a_tracking_server_is_told_the_report_only_where_one_is_named(
    tmp_path, monkeypatch, setting, num_told
):
    told = []

    def tell(report, documents, *, tracking_uri):
        told.append((tracking_uri, report["name"], sorted(documents)))

    monkeypatch.setattr(experiment, "log_report", tell)
    config = demo(setting)
    prepare(str(tmp_path), config, cluster={}, use_gpu=False)
    experiment.run_report(Job(config=config, use_gpu=False), f"{tmp_path}/report", {})
    paths = ["config.yaml", "report/index.html", "report/report.json"]
    assert told == [("http://tracking", "demo", paths)] * num_told


def test_steps_are_as_patient_as_the_config_says_and_the_pretraining_may_take_any_time():
    jobs = ["jobs.retries=1", "jobs.backoff_seconds=3", "jobs.timeout_hours=2"]
    steps = steps_of(demo(*jobs))
    assert {(its.patience.retries, its.patience.backoff_seconds) for its in steps.values()} == {(1, 3.0)}
    assert steps["finetune-random"].patience.timeout_seconds == 7200
    assert steps["pretrain"].patience.timeout_seconds is None
    limited = steps_of(demo("jobs.pretrain_timeout_hours=0.5"))
    assert limited["pretrain"].patience.timeout_seconds == 1800


def test_every_worker_of_a_step_needs_a_place_and_a_range_may_take_more():
    settings = ["resources.workers=[1, 2]", "resources.cpus_per_worker=1", "data.decode_resource=decode"]
    demand = steps_of(demo(*settings), use_gpu=True)["pretrain"].demand
    worker, decoding = {"CPU": 1.0, "GPU": 1.0}, {"CPU": 1.0, "decode": 1.0}
    assert demand.bundles == (worker, decoding)
    assert demand.growth == (worker,)
    assert steps_of(demo())["catalog"].demand.bundles == ({"CPU": 1.0},)
