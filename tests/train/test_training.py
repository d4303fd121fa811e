"""A training as plain data: its parts, its pace, and where its stream goes on."""

from __future__ import annotations

import numpy as np
import pytest

from mae_dist.config.load import load
from mae_dist.data.catalog import Catalog
from mae_dist.data.frames import clip_ids
from mae_dist.data.order import block_positions
from mae_dist.train.training import Training

EVALUATION = "evaluations.finetune"


def catalog(num_samples: int = 100) -> Catalog:
    keys = [f"{number}.png" for number in range(num_samples)]
    labels = np.arange(num_samples) % 2
    return Catalog.of(keys=keys, uris=keys, media="image", labels=labels, classes=["cat", "dog"])


def training(*settings: str, evaluation: str | None = None) -> Training:
    """The demo's: global batch 32, micro-batches of 16, 2 workers."""
    config = load("pretrain/demo", settings)
    return Training(config=config, output="out", catalog="catalog.parquet", evaluation=evaluation)


@pytest.mark.parametrize(("world", "accumulation"), [(1, 2), (2, 1)])
def test_workers_share_the_global_batch_by_accumulating(world, accumulation):
    pace = training().pace(catalog(), world=world)
    assert (pace.global_batch, pace.accumulation) == (32, accumulation)
    assert pace.accumulation * world * 16 == pace.global_batch


@pytest.mark.parametrize("world", [3, 4])
def test_workers_that_cannot_divide_the_global_batch_are_refused(world):
    with pytest.raises(ValueError) as caught:
        training().pace(catalog(), world=world)
    assert str(caught.value) == (
        f"{world} workers with micro_batch 16 cannot make a global_batch of 32: it must be a multiple of "
        f"{16 * world}"
    )


def test_a_range_of_workers_holds_the_numbers_that_divide_the_global_batch():
    given = ("train.micro_batch=4", "resources.workers=[2, 8]", "evaluations.finetune.workers=null")
    assert training(*given).world_sizes == [2, 4, 8]
    assert training(*given, evaluation="finetune").world_sizes == [2]


@pytest.mark.parametrize(
    ("every", "steps"),
    [("1 epochs", 3), ("2 epochs", 6), ("0.1 epochs", 1), ("0.5 epochs", 2), ("7 steps", 7)],
)
def test_checkpoints_are_some_whole_steps_apart_and_at_least_one(every, steps):
    """100 samples in batches of 32: an epoch is 3.125 steps."""
    assert training(f"checkpoint.every={every}").pace(catalog(), world=2).checkpoint_every == steps


@pytest.mark.parametrize("times", ["input.frame_stride=4", "input.sample_fps=8"])
def test_twice_as_many_frames_at_half_the_stride_hold_those_of_the_input(times):
    """Of a video of 25 frames per second; what is drawn for other streams is what it was."""
    same, double = training(times), training(times, "target.frames=double")
    seconds = np.arange(100) / 25
    for seed in range(20):
        seen = clip_ids(seconds, same.stream().input, np.random.default_rng(seed))
        decoded = clip_ids(seconds, double.stream().input, np.random.default_rng(seed))
        assert len(decoded) == 2 * len(seen)
        if "stride" in times:
            assert decoded[::2].tolist() == seen.tolist()
            assert (np.diff(decoded) == 2).all()
        else:
            assert np.allclose(np.diff(seconds[decoded]), 1 / 16, atol=1 / 25)
    assert double.stream().grid == same.stream().grid
    other = training(times, "target.frames=double", evaluation="finetune")
    assert other.stream().input == same.config.input


def test_the_limits_of_the_recipe_hold_in_every_stream():
    given = training("data.limits.pixels=1000", "data.limits.seconds=0.5", evaluation="linear_probe")
    for stream in (given.stream(), given.test_stream()):
        assert (stream.views.limits.pixels, stream.views.limits.seconds) == (1000, 0.5)


@pytest.mark.parametrize("micro_batch", [4, 8, 16])
@pytest.mark.parametrize("step", [0, 1, 7])
def test_the_stream_goes_on_with_the_first_sample_that_was_not_used(step, micro_batch):
    given = training(f"train.micro_batch={micro_batch}")
    assert block_positions(given.first_block(step), micro_batch)[0] == step * 32


def test_a_pretraining_is_masked_and_an_evaluation_is_not_and_each_has_its_own_batches():
    pretraining = training().stream()
    assert pretraining.mask is not None
    assert (pretraining.train, pretraining.micro_batch) == (True, 16)
    evaluation = training(f"{EVALUATION}.train.micro_batch=8", evaluation="finetune").stream()
    assert evaluation.mask is None
    assert (evaluation.train, evaluation.micro_batch) == (True, 8)


def test_repeated_crops_count_like_samples_in_epochs_and_learning_rate():
    """400 crops of 100 samples in batches of 32, whether each sample is decoded four times or once."""
    plain, repeated = training("train.length=4 epochs"), training("train.length=4 epochs", "train.repeats=4")
    assert repeated.schedule(catalog()) == plain.schedule(catalog())
    assert (repeated.stream().repeats, repeated.pace(catalog(), world=2).repeats) == (4, 4)
    assert training("train.repeats=4", evaluation="finetune").stream().repeats == 1
    finetuning = training(f"{EVALUATION}.train.repeats=2", evaluation="finetune")
    assert (finetuning.stream().repeats, finetuning.test_stream().views_per_sample) == (2, 1)


def test_the_test_stream_is_one_unshuffled_pass_in_batches_of_its_own():
    given = training(f"{EVALUATION}.eval_batch=5", evaluation="finetune").test_stream()
    assert (given.train, given.mask, given.micro_batch) == (False, None, 5)


def test_few_labels_are_the_first_of_each_class(tmp_path):
    saved = str(tmp_path / "catalog.parquet")
    catalog().save(saved)
    config = load("pretrain/demo", [f"{EVALUATION}.labels_per_class=3"])
    few = Training(config=config, output="out", catalog=saved, evaluation="finetune").training_samples()
    assert [row.key for row in few.rows(np.arange(few.num_samples))] == [f"{n}.png" for n in range(6)]
    whole = Training(config=config, output="out", catalog=saved).training_samples()
    assert whole.num_samples == 100


def test_the_schedule_is_that_of_the_evaluation_over_the_samples_it_has():
    given = training(f"{EVALUATION}.train.length=4 epochs", evaluation="finetune")
    assert given.schedule(catalog(64)).total_steps == 8
    assert training("train.length=4 epochs").schedule(catalog(64)).total_steps == 8


def test_results_lie_below_the_output():
    given = training()
    assert (given.checkpoints, given.export) == ("out/checkpoints", "out/export/model.safetensors")


def test_an_evaluation_may_choose_its_frames_otherwise_than_the_pretraining():
    given = training(f"{EVALUATION}.sampling=uniform", evaluation="finetune")
    for stream in (given.stream(), given.test_stream()):
        assert stream.input.sampling == "uniform"
    assert training(f"{EVALUATION}.sampling=uniform").stream().input.sampling == "dense"
    assert training("input.sampling=uniform", evaluation="finetune").stream().input.sampling == "uniform"
