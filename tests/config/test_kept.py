"""Evaluations of kept checkpoints in recipes: what can be asked for, and what has to be kept for it."""

from __future__ import annotations

import pytest

from mae_dist.config.duration import Duration
from mae_dist.config.load import from_dict, load, to_dict
from tests.config.small import CATALOG, mistakes

KEPT = "checkpoint.keep_every=20 epochs"


def asked(checkpoints: str) -> str:
    return f"evaluations.linear_probe.checkpoints={checkpoints}"


def test_an_evaluation_is_of_the_final_weights_and_of_others_where_it_says_so():
    assert load("pretrain/in1k", [CATALOG]).evaluations["linear_probe"].checkpoints == ("last",)
    config = load("pretrain/in1k", [CATALOG, KEPT, asked("[last, every 40 epochs]")])
    assert config.evaluations["linear_probe"].checkpoints == ("last", Duration(40, "epochs"))
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            [KEPT, asked("[last, best]")],
            'linear_probe.checkpoints: must be "last", or like "every 20 epochs" or "every 3000 steps", '
            "got 'best'",
        ),
        ([KEPT, asked("[every 20 epochs]")], 'linear_probe.checkpoints: must name "last", once: the final'),
        (
            [asked("[last, every 20 epochs]")],
            "linear_probe.checkpoints: 'every 20 epochs' needs checkpoints that are not deleted, and "
            "checkpoint.keep_every is null; '20 epochs' would do",
        ),
        (
            [KEPT, asked("[last, every 30 epochs]")],
            "linear_probe.checkpoints: 'every 30 epochs' must be a multiple of "
            "checkpoint.keep_every='20 epochs', as others are deleted",
        ),
        ([KEPT, asked("[last, every 3000 steps]")], "'every 3000 steps' must be a multiple of"),
        ([KEPT, asked("[last, every 0 epochs]")], "must be longer than 0, got 'every 0 epochs'"),
        (
            [KEPT, asked("[last, every 20 epochs]"), "evaluations.linear_probe.start_from=[random]"],
            "'every 20 epochs' is of a pretraining, and start_from does not name pretrained",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_told_with_what_would_be_right(settings, problem):
    assert problem in mistakes("pretrain/in1k", CATALOG, *settings)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("jobs.retries=11", "jobs.retries: must be at most 10, got 11"),
        ("jobs.timeout_hours=0", "jobs.timeout_hours: must be greater than 0, got 0"),
        ("jobs.side_by_side=0", "jobs.side_by_side: must be greater than 0, got 0"),
    ],
)
def test_numbers_of_the_job_layer_that_make_no_sense_are_told(setting, problem):
    assert problem in mistakes("pretrain/in1k", CATALOG, setting)
