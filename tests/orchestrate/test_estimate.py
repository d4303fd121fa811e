"""What a run will take, worked out before it is run."""

from __future__ import annotations

import pytest

from mae_dist.config.load import load
from mae_dist.data.catalog import Catalog
from mae_dist.model.operations import forward_multiply_adds
from mae_dist.orchestrate.estimate import Work, describe_work, scaled, work_of
from mae_dist.orchestrate.experiment import build_steps

INPUTS = {"catalog": "digest", "test_catalog": "digest"}


def catalog(*, samples: int, classes: int = 4) -> Catalog:
    """So many samples, labelled in turn."""
    names = [f"{number:05d}" for number in range(samples)]
    return Catalog.of(
        keys=names,
        uris=[f"{name}.mp4" for name in names],
        media="video",
        labels=[number % classes for number in range(samples)],
        classes=[f"class {number}" for number in range(classes)],
    )


def estimated(*settings: str, **catalogs: Catalog) -> dict[str, Work]:
    config = load("pretrain/demo", ["storage=runs", *settings])
    return work_of(config, build_steps(config, INPUTS, use_gpu=False), catalogs)


def test_a_pretraining_takes_its_passes_times_the_operations_of_a_training_step():
    config = load(
        "pretrain/in1k",
        ["model.size=mae_large", "train.length=1600 epochs", "data.catalog=x", "storage=runs"],
    )
    steps = build_steps(config, INPUTS, use_gpu=True)
    work = work_of(config, steps, {"catalog": catalog(samples=1000)})["pretrain"]
    assert work.passes == pytest.approx(1600 * 1000, rel=0.01)
    forward = forward_multiply_adds(config.model.architecture, config.grid, num_kept=49)
    assert work.operations == work.passes * 2 * (3 * forward.total - forward.embedding)


def test_a_training_of_epochs_grows_with_the_samples_and_one_of_steps_does_not():
    settings = ["evaluations={}", "data.catalog=c.parquet", "data.test_catalog=null"]
    few, many = (
        estimated("train.length=10 epochs", *settings, catalog=catalog(samples=number))["pretrain"]
        for number in (512, 1024)
    )
    assert many.operations == 2 * few.operations
    steps = [estimated("train.length=50 steps", *settings, catalog=catalog(samples=n)) for n in (512, 1024)]
    assert steps[0] == steps[1]


def test_what_is_drawn_is_counted_by_its_name_and_labels_by_the_catalog():
    drawn = estimated("evaluations.linear_probe.labels_per_class=null")
    assert {"pretrain", "linear_probe-pretrained", "linear_probe-random"} <= drawn.keys()
    unknown = estimated("evaluations.linear_probe.labels_per_class=5")
    assert not any(name.startswith("linear_probe") for name in unknown)
    settings = ["data.catalog=c.parquet", "data.test_catalog=t.parquet"]
    known = estimated(
        "evaluations.linear_probe.labels_per_class=5",
        "evaluations.linear_probe.train.length=10 epochs",
        *settings,
        catalog=catalog(samples=400),
        test_catalog=catalog(samples=100),
    )
    probe = known["linear_probe-pretrained"]
    # Four classes of five, in whole batches, and the test set once.
    assert 150 <= probe.passes - 100 <= 250


def test_a_sum_has_three_digits_and_says_what_it_assumes():
    assert [scaled(number) for number in (0, 1, 999.4, 999.6, 123456, 2.5e21)] == [
        *("0 ", "1 ", "999 ", "1 k", "123 k", "2.5 Z")
    ]
    line = describe_work({"a": Work(1000, 10**17), "b": Work(500, 26 * 10**16)})
    assert line == "in all 360 PFLOP: 1 h on a device that sustains 100 TFLOP/s"
