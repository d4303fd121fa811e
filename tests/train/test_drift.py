"""A training is taken up as what it was, or refused with the difference."""

from __future__ import annotations

import typing

import pytest
import torch

from mae_dist.config.load import load
from mae_dist.config.resilience import DriftName
from mae_dist.train.drift import DriftError, check_drift, facts

CPU = facts(load("pretrain/demo", []), autocast_dtype=None)


def changed(*overrides: str, autocast_dtype: torch.dtype | None = None) -> list[str]:
    now = facts(load("pretrain/demo", list(overrides)), autocast_dtype=autocast_dtype)
    return [name for name in CPU if now[name] != CPU[name]]


def test_every_fact_can_be_allowed_by_its_name():
    assert set(CPU) == set(typing.get_args(DriftName))


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("data.decoder=torchcodec", ["decoder"]),
        ("guard.patience=5", ["guard"]),
        ("resources.workers=1", []),
        ("resources.engine=torch", []),
        ("train.micro_batch=2", []),
        ("log.every=1", []),
        ("checkpoint.keep=5", []),
    ],
)
def test_what_changes_pixels_or_verdicts_is_a_fact_and_how_the_work_is_spread_is_none(override, names):
    assert changed(override) == names


def test_auto_precision_that_comes_to_something_else_on_another_device_is_drift():
    assert changed(autocast_dtype=torch.bfloat16) == ["precision"]


def test_drift_is_refused_with_then_and_now_and_the_way_to_allow_it():
    now = CPU | {"torch": "99.0", "precision": "bfloat16"}
    with pytest.raises(DriftError) as caught:
        check_drift("out/checkpoints", then=CPU, now=now, allowed=["numpy"])
    assert str(caught.value).splitlines() == [
        "out/checkpoints: the run is not what it was when this was saved",
        "  precision: float32 then, bfloat16 now",
        f"  torch: {CPU['torch']} then, 99.0 now",
        "Restore what it was, or accept the change by name: "
        "--set checkpoint.allow_drift=[numpy,precision,torch]",
    ]


def test_what_is_allowed_by_name_or_was_not_recorded_passes():
    config = load("pretrain/demo", ["checkpoint.allow_drift=[torch,precision]"])
    now = CPU | {"torch": "99.0", "precision": "bfloat16"}
    check_drift("out", then=CPU, now=now, allowed=config.checkpoint.allow_drift)
    check_drift("out", then={}, now=now, allowed=[])


def test_a_name_that_is_no_fact_is_a_mistake_of_the_recipe():
    with pytest.raises(ValueError, match=r"checkpoint\.allow_drift"):
        load("pretrain/demo", ["checkpoint.allow_drift=[troch]"])
