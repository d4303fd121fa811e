"""A plan says what a training takes, what to choose, and why it cannot work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mae_dist.config.load import load_without_samples
from mae_dist.config.schema import RunConfig
from mae_dist.model.sizes import table
from mae_dist.orchestrate.sizing.choices import Choice
from mae_dist.orchestrate.sizing.plan import PUBLISHED_MFU, Bill, Course, Plan, Request, make_plan

ROWS = {row.name: row for row in table()}
ENORMOUS = ["input.height=2240", "input.width=2240", "train.precision=fp16"]
IN1K, SSV2 = 1_281_167, 168_913


def recipe(name: str, *settings: str) -> RunConfig:
    return load_without_samples(name, settings)


def planned(name: str, *settings: str, gpu: str = "h100", gpus: int = 8, **asked) -> Plan:
    return make_plan(recipe(name, *settings), Request(gpu=gpu, gpus=gpus, **asked))


def chosen(plan: Plan) -> Choice:
    assert plan.recommended is not None, plan.problems
    return plan.recommended


def course(plan: Plan) -> Course:
    assert plan.course is not None, plan.problems
    return plan.course


def bill(plan: Plan) -> Bill:
    found = course(plan).bill
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "size", "billions"),
    [
        # What our code executes of the published 9.8 (MAE) and 35.48 (VideoMAE) multiply-adds; in operations,
        # both passes: 6 per multiply-add but for the pixels' gradient.
        ("pretrain/in1k", "mae_base", 57.1),
        ("pretrain/in1k", "mae_large", 122.9),
        ("pretrain/k400", "videomae_base", 199.7),
    ],
)
def test_a_sample_costs_what_the_table_of_sizes_says(name, size, billions):
    plan = planned(name, f"model.size={size}")
    assert plan.operations / 1e9 == pytest.approx(billions, rel=0.01)
    assert plan.operations < 6 * ROWS[size].pretrain_multiply_adds_executed
    assert plan.parameters.encoder == ROWS[size].encoder_parameters
    assert plan.parameters.decoder == ROWS[size].decoder_parameters


@pytest.mark.parametrize(
    ("name", "size", "epochs", "samples", "hours", "mfu"),
    [
        ("pretrain/in1k", "mae_large", 800, IN1K, 42, 0.105),
        ("pretrain/ssv2", "videomae_base", 800, SSV2, 19.5, 0.048),
    ],
)
def test_the_authors_hours_on_64_v100_are_the_mfu_that_is_told(name, size, epochs, samples, hours, mfu):
    assert mfu in PUBLISHED_MFU
    settings = [f"model.size={size}", f"train.length={epochs} epochs", "train.precision=fp16"]
    plan = planned(name, *settings, gpu="v100-32gb", gpus=64, mfu=mfu, samples=samples)
    assert bill(plan).seconds / 3600 == pytest.approx(hours, rel=0.02)


def test_a_fine_tuning_costs_three_passes_of_the_published_180_billion():
    """arXiv 2203.12602: 180 GFLOPs (multiply-adds) for a view of ViT-B."""
    plan = planned("pretrain/k400", evaluation="finetune")
    assert plan.operations / 6e9 == pytest.approx(180, rel=0.01)


def test_what_is_recommended_makes_the_global_batch_and_is_a_recipe():
    config = recipe("pretrain/k400")
    plan = make_plan(config, Request(gpu="h100", gpus=16))
    choice = chosen(plan)
    assert choice.micro_batch * choice.accumulation * 16 == config.train.global_batch
    again = recipe("pretrain/k400", *plan.settings)
    assert again.train.micro_batch == choice.micro_batch
    assert again.resources.workers.most == 16
    assert again.resources.zero_stage == choice.stage


@pytest.mark.parametrize("evaluation", ["finetune", "linear_probe"])
def test_what_is_recommended_to_an_evaluation_is_a_recipe_too(evaluation):
    plan = planned("pretrain/in1k", evaluation=evaluation, gpus=4)
    assert not plan.problems
    again = recipe("pretrain/in1k", *plan.settings).evaluations[evaluation]
    assert again.workers == 4
    assert again.training.micro_batch == chosen(plan).micro_batch


def test_memory_grows_with_the_micro_batch_and_falls_with_checkpointing():
    choices = {
        (c.stage, c.micro_batch, c.checkpointing): c.peak_bytes for c in planned("pretrain/k400").choices
    }
    assert choices[1, 1, False] < choices[1, 32, False] < choices[1, 128, False]
    assert choices[1, 128, True] < choices[1, 128, False] / 2


def test_a_smaller_gpu_makes_more_passes_and_then_recomputes():
    large, small = (chosen(planned("pretrain/k400", gpu=gpu)) for gpu in ("h200", "l4"))
    assert large.micro_batch > small.micro_batch
    assert large.accumulation < small.accumulation
    assert not small.checkpointing
    assert chosen(planned("pretrain/k400", *ENORMOUS, gpu="t4")).checkpointing


def test_speed_time_and_cost_are_one_calculation():
    plan = planned(
        "pretrain/in1k", samples=IN1K, mfu=0.25, price_gpu_hour=2.0, price_cpu_hour=0.05, node_cpus=64
    )
    its, takes = course(plan), bill(plan)
    assert its.samples_per_second == pytest.approx(0.25 * 989e12 * 8 / plan.operations)
    assert takes.seconds == pytest.approx(1600 * IN1K / its.samples_per_second, rel=1e-3)
    assert takes.gpu_hours == pytest.approx(8 * takes.seconds / 3600)
    assert takes.cost == pytest.approx(2 * takes.gpu_hours + 0.05 * takes.cpu_hours)
    assert its.feeding.nodes * 64 >= its.feeding.cpus


def test_repeated_crops_and_a_quicker_decode_need_fewer_cpus():
    once = course(planned("pretrain/k400")).feeding
    repeated = course(planned("pretrain/k400", "train.repeats=4")).feeding
    assert repeated.storage_bytes_per_second == pytest.approx(once.storage_bytes_per_second / 4)
    assert repeated.cpus < once.cpus / 2
    prepared = course(planned("pretrain/k400", decode_seconds=0.0227)).feeding
    assert prepared.cpus < once.cpus / 2
    # 4 times 16.7 ms are 66.9 ms and three more crops.
    assert repeated.decode_seconds == pytest.approx(0.0176, rel=0.01)


def test_recomputation_takes_its_time_and_counts_no_work():
    plan = planned("pretrain/k400", *ENORMOUS, gpu="t4", mfu=0.2)
    assert chosen(plan).checkpointing
    assert 0.75 * 0.2 <= course(plan).mfu < 0.8 * 0.2
    assert course(plan).samples_per_second == pytest.approx(course(plan).mfu * 65e12 * 8 / plan.operations)


def test_the_size_of_a_public_data_set_is_known_by_its_name():
    assert planned("pretrain/ssv2").samples == SSV2
    assert planned("pretrain/k400", "data.catalog=s3://bucket/ssv2.parquet").samples == SSV2
    assert planned("pretrain/k400", samples=1000).samples == 1000
    assert planned("pretrain/demo", gpus=1).samples == 512


def test_without_the_number_of_samples_the_time_is_not_told():
    plan = planned("pretrain/k400", "name=mine")
    assert course(plan).bill is None
    assert any("--samples" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("settings", "asked", "complaint"),
    [
        (
            [],
            {"gpus": 48},
            "cannot be divided among 48 GPUs; 8, 16, 32 GPUs, or a global_batch of 1008 or 1056 would do",
        ),
        ([], {"gpu": "v100"}, "train.precision: auto means bf16, for which no peak of V100 is known"),
        (["resources.offload=optimizer"], {}, "resources.offload: optimizer is not planned for"),
        (
            [*ENORMOUS, "model.size=videomae_huge"],
            {"gpu": "t4"},
            "nothing fits into the 13 GB that can be used of T4 with 16 GB: the least is ",
        ),
    ],
)
def test_a_plan_that_cannot_work_says_why(settings, asked, complaint):
    plan = planned("pretrain/k400", *settings, **asked)
    assert any(complaint in problem for problem in plan.problems), plan.problems
    assert plan.course is None


@pytest.mark.parametrize(
    ("name", "asked", "complaint"),
    [
        ("pretrain/k400", {"gpu": "h10"}, "no GPU is known as 'h10'; did you mean 'h100'?"),
        ("pretrain/k400", {"gpu": "a100-60gb"}, "A100 comes with 40 and 80 GB of memory, got 'a100-60gb'"),
        ("pretrain/k400", {"evaluation": "finetun"}, "not in the recipe, which has linear_probe, finetune"),
        ("pretrain/tokenizer", {}, "the training of a tokenizer is not planned for"),
        ("pretrain/cifar10", {"evaluation": "knn"}, "protocol knn, which trains nothing on the stream"),
    ],
)
def test_what_there_is_not_is_refused(name, asked, complaint):
    with pytest.raises(ValueError, match=complaint.replace("?", r"\?")):
        planned(name, **asked)


def test_a_stated_peak_stands_in_for_the_data_sheet():
    plan = planned("pretrain/k400", "resources.peak_tflops=100", gpu="v100-32gb")
    assert not plan.problems
    assert plan.peak_tflops == 100


def test_a_training_counted_in_steps_needs_no_number_of_samples():
    plan = planned("pretrain/demo", gpus=1)
    assert bill(plan).steps == 280


def test_the_recipe_decides_whether_averages_are_kept():
    config = recipe("pretrain/k400")
    with_averages = replace(config, train=replace(config.train, ema=0.9999))
    least = [
        min(choice.peak_bytes for choice in make_plan(which, Request(gpu="h100", gpus=8)).choices)
        for which in (config, with_averages)
    ]
    assert least[0] < least[1]
