"""What the figures of the data plane say: how much, and which stage is to blame."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from mae_dist.train.intake import (
    REPEAT_SECONDS,
    Intake,
    WaitWatch,
    block_intake,
    bottleneck,
    figures,
    over_ranks,
)
from tests.train.test_feed import STATS

DECODING = Intake(
    waited_seconds=2.0,
    building_seconds=8.0,
    transport_seconds=1.0,
    copy_seconds=1.0,
    decodes=200,
    build_seconds=40.0,
    build_cpu_seconds=36.0,
    read_seconds=2.0,
    read_bytes=100e6,
    fetched_bytes=125e6,
    requests=500,
)


def test_figures_follow_from_the_sums_of_an_interval():
    line = figures(DECODING, seconds=10.0)
    assert line == {
        "data_wait_share": 0.2,
        "decoded_per_second": 20.0,
        "decode_cpu_ms": 180.0,
        "decode_cpus": 3.6,
        "read_bytes_per_second": 10e6,
        "read_share": 0.05,
        "read_use": 0.8,
        "storage_requests": 500,
        "storage_retries": 0,
        "transport_share": 0.1,
        "copy_share": 0.1,
    }


def test_an_interval_without_a_block_has_figures_too():
    assert set(figures(Intake(), seconds=1.0).values()) == {0.0}


@pytest.mark.parametrize(
    ("built_before", "building", "transport"),
    [(0.0, 2.0, 0.0), (0.5, 1.5, 0.5), (60.0, 0.0, 2.0), (-60.0, 2.0, 0.0)],
)
def test_a_block_that_lay_ready_while_it_was_waited_for_is_the_fault_of_transport(
    built_before, building, transport, monkeypatch
):
    """Also where the other machine's clock is a minute off."""
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    intake = block_intake(
        STATS | {"built_at": 1000.0 - 0.25 - built_before}, waited_seconds=2.0, copy_seconds=0.25
    )
    assert (intake.building_seconds, intake.transport_seconds) == (building, transport)


@pytest.mark.parametrize(
    ("changed", "stage", "advice"),
    [
        ({}, "decode", r"keeps 3\.6 CPUs busy, 180 ms per sample, and 4\.5 would be enough; .*re-encoded"),
        ({"read_seconds": 30.0}, "storage", r"is 75% waiting for bytes, at 10\.0 MB/s; .*cpus_per_task"),
        ({"read_seconds": 30.0, "retries": 20}, "storage", r"10\.0 MB/s, 20 of 500 requests repeated; "),
        ({"transport_seconds": 30.0}, "transport", r"77% of .*data\.prefetch_batches"),
        ({"copy_seconds": 30.0}, "copy", r"77% of .*resources\.cpus_per_worker"),
    ],
)
def test_the_stage_that_bounds_is_named_with_what_would_help(changed, stage, advice):
    named, sentence = bottleneck(figures(replace(DECODING, **changed), seconds=10.0))
    assert named == stage
    assert re.search(advice, sentence)


def test_a_warning_comes_again_only_after_a_while_or_for_another_stage():
    watch = WaitWatch(0.05)
    line = figures(DECODING, seconds=10.0) | {"seconds": 10.0}
    assert watch.look(line) is None  # the pipeline starts
    assert watch.look(line) is not None
    assert watch.look(line | {"seconds": 20.0}) is None
    assert watch.look(line | {"seconds": 20.0, "read_share": 0.9}) is not None
    assert watch.look(line | {"seconds": 10.0 + REPEAT_SECONDS}) is not None
    assert WaitWatch(0.05).look(line | {"data_wait_share": 0.05}) is None


def intake_of_rank(rank: int) -> Intake:
    return over_ranks(Intake(waited_seconds=1.0 + rank, decodes=10.0 * (1 + rank)))


def test_over_ranks_work_adds_up_and_the_longest_wait_counts(two_ranks):
    assert two_ranks(intake_of_rank) == [Intake(waited_seconds=2.0, decodes=30.0)] * 2
