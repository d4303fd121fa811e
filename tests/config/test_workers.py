"""Numbers of workers: how a recipe writes them, and which go with a batch."""

from __future__ import annotations

import pytest

from mae_dist.config.fields import field_infos
from mae_dist.config.load import load, to_dict
from mae_dist.config.problems import ConfigError
from mae_dist.config.workers import WorkerRange

CATALOG = "data.catalog=images"


def refusal(*settings: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load("pretrain/in1k", [CATALOG, "evaluations={}", *settings])
    [problem] = caught.value.problems
    return f"{problem.path}: {problem.message}"


@pytest.mark.parametrize(
    ("given", "workers", "written"),
    [("4", WorkerRange(4, 4), 4), ("[2, 8]", WorkerRange(2, 8), [2, 8]), ("[2,2]", WorkerRange(2, 2), 2)],
)
def test_workers_are_a_number_or_the_least_and_the_most(given, workers, written):
    config = load("pretrain/in1k", [CATALOG, f"resources.workers={given}"])
    assert config.resources.workers == workers
    assert to_dict(config)["resources"]["workers"] == written
    assert workers.is_elastic == (workers.least < workers.most)


@pytest.mark.parametrize("given", ["0", "true", "2.0", "none", "[8, 2]", "[0, 2]", "[1, 2, 4]", "[1]"])
def test_anything_else_is_refused_with_what_would_be_right(given):
    shown = "'none'" if given == "none" else given
    assert refusal(f"resources.workers={given}") == (
        "resources.workers: must be a number of workers, like 4, or the least and the most, like [2, 8], got "
        f"{shown}"
    )


def test_both_ends_of_a_range_divide_the_global_batch():
    assert refusal("resources.workers=[3, 8]") == (
        "train.global_batch: must be a multiple of micro_batch * workers for 3 and for 8 workers, so of "
        "3072, got 4096; resources.workers from and to one of 1, 2, 4, 8, 16, 32, or global_batch 3072 or "
        "6144 would do"
    )


def test_an_evaluation_has_a_fixed_size_and_of_a_range_the_least():
    evaluations = ["evaluations.finetune.workers=null", "evaluations.linear_probe.workers=8"]
    config = load("pretrain/in1k", [CATALOG, "resources.workers=[2, 8]", *evaluations])
    assert config.workers_for(None) == WorkerRange(2, 8)
    assert config.workers_for(config.evaluations["finetune"]) == WorkerRange(2, 2)
    assert config.workers_for(config.evaluations["linear_probe"]) == WorkerRange(8, 8)


def test_the_reference_of_fields_shows_both_ways_to_write_workers():
    [info] = [info for info in field_infos() if info.path == "resources.workers"]
    assert (info.type, info.default) == ("integer > 0 or [least, most]", "1")
