"""What of a device the model's arithmetic uses, and that no peak is made up."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mae_dist.config.load import load
from mae_dist.data.catalog import Catalog
from mae_dist.model.operations import forward_multiply_adds
from mae_dist.train.training import Training
from mae_dist.train.utilisation import Utilisation, known_peak
from mae_dist.train.worker import utilisation

BF16, FP16, FP32 = torch.bfloat16, torch.float16, None


@pytest.mark.parametrize(
    ("device", "dtype", "tflops"),
    [
        ("NVIDIA H200", BF16, 989.0),
        ("NVIDIA H100 80GB HBM3", BF16, 989.0),
        ("NVIDIA H100 80GB HBM3", FP32, 67.0),
        ("NVIDIA H100 PCIe", FP16, 756.0),
        ("NVIDIA A100-SXM4-80GB", BF16, 312.0),
        ("NVIDIA A100 80GB PCIe", BF16, 312.0),
        ("Tesla V100-SXM2-32GB", FP16, 125.0),
        ("Tesla V100-PCIE-16GB", FP16, 112.0),
        ("Tesla T4", FP16, 65.0),
        ("NVIDIA L4", BF16, 121.0),
        ("NVIDIA L40S", BF16, 362.0),
        ("NVIDIA A10G", BF16, 70.0),
        ("NVIDIA B200", BF16, 2250.0),
    ],
)
def test_the_peak_is_that_of_dense_products_on_the_data_sheet(device, dtype, tflops):
    assert known_peak(device, dtype) == tflops


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ("cpu", FP32),
        ("NVIDIA GeForce RTX 5090", BF16),
        ("NVIDIA L40", BF16),  # neither an L4 nor an L40S
        ("Tesla V100-SXM2-32GB", BF16),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", BF16),
    ],
)
def test_where_the_peak_is_not_known_none_is_made_up(device, dtype):
    assert known_peak(device, dtype) is None


def test_the_share_of_the_peak_is_that_of_one_device():
    known = Utilisation(operations=2 * 10**9, world=4, peak_tflops=2.0)
    assert known.figures(1000.0) == {"tflops": 0.5, "mfu": 0.25}


def test_without_a_peak_there_is_no_share():
    unknown = Utilisation(operations=2 * 10**9, world=1, peak_tflops=None)
    assert unknown.figures(1000.0) == {"tflops": 2.0}


def training(*settings: str, evaluation: str | None = None) -> Training:
    config = load("pretrain/demo", settings)
    return Training(config=config, output="out", catalog="catalog.parquet", evaluation=evaluation)


def test_a_pretraining_counts_kept_and_hidden_tokens_of_its_own_mask():
    given = training("mask={kind: tube, ratio: 0.75}")
    architecture, grid = given.config.model.architecture, given.config.grid
    forward = forward_multiply_adds(architecture, grid, num_kept=grid.num_tokens // 4)
    assert given.operations(num_classes=2) == 2 * (3 * forward.total - forward.embedding)
    assert training("mask={kind: tube, ratio: 0.5}").operations(num_classes=2) > given.operations(
        num_classes=2
    )


def test_a_decoder_that_predicts_a_part_is_counted_by_that():
    given = training("mask={kind: tube, ratio: 0.75, predict: running_cell, predict_ratio: 0.5}")
    architecture, grid = given.config.model.architecture, given.config.grid
    kept, predicted = grid.num_tokens // 4, grid.num_tokens // 2
    forward = forward_multiply_adds(architecture, grid, num_kept=kept, num_predicted=predicted)
    assert given.operations(num_classes=2) == 2 * (3 * forward.total - forward.embedding)


def test_what_is_predicted_of_a_token_and_of_which_tokens_is_counted():
    mask = "mask={kind: tube, ratio: 0.75}"
    given = training(mask, "target={kind: hog, frames: centre}")
    architecture, grid = given.config.model.architecture, given.config.grid
    predicted = dataclasses.replace(architecture, predicted=3 * 9)  # one cell of one frame
    kept = grid.num_tokens // 4
    forward = forward_multiply_adds(predicted, grid, num_kept=kept, num_predicted=grid.per_frame)
    assert given.operations(num_classes=2) == 2 * (3 * forward.total - forward.embedding)
    both = training(mask, "target.frames=double").operations(num_classes=2)
    pixels = (grid.num_tokens - kept) * architecture.decoder.width * 2 * 8 * 8 * 3
    assert both - training(mask).operations(num_classes=2) == 2 * 3 * pixels


def test_a_finetuning_counts_the_whole_encoder_three_times_and_a_probe_once():
    given = training(evaluation="finetune")
    forward = forward_multiply_adds(given.config.model.architecture, given.config.grid, num_classes=2)
    assert given.operations(num_classes=2) == 2 * (3 * forward.total - forward.embedding)
    probe = training(evaluation="linear_probe")
    assert probe.operations(num_classes=2) == 2 * (forward.encoder + 2 * forward.head)


@pytest.mark.parametrize(("settings", "peak"), [([], None), (["resources.peak_tflops=0.25"], 0.25)])
def test_a_peak_that_the_recipe_states_is_used_on_any_device(settings, peak):
    samples = Catalog.of(keys=["a"], uris=["a"], media="image", labels=[0], classes=["cat", "dog"])
    given = training(*settings)
    found = utilisation(given, samples, world=2, device=torch.device("cpu"))
    assert found == Utilisation(operations=given.operations(num_classes=2), world=2, peak_tflops=peak)


def test_a_peak_of_nothing_is_a_mistake_of_the_recipe():
    with pytest.raises(ValueError, match=r"resources\.peak_tflops: .*greater than 0"):
        load("pretrain/demo", ["resources.peak_tflops=0"])
