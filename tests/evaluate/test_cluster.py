"""Extraction through Ray Data: the same features from any number of encoders, each block once."""

from __future__ import annotations

import os

import pytest
import torch

from mae_dist.evaluate.cluster import Placement, embedded, on_worker
from mae_dist.evaluate.extraction import extract
from mae_dist.evaluate.features import joined
from tests.evaluate.frozen_encoder import drawn, embedded_here, extraction, run_config

pytestmark = pytest.mark.slow


def placement(workers: int) -> Placement:
    return Placement(workers=workers, cpus_per_worker=1.0, use_gpu=False, cpus_per_task=1.0)


def test_any_number_of_encoders_makes_each_block_once_and_the_same_features(ray_cluster, tmp_path):
    config = run_config(
        tmp_path, "evaluations.probe.features.drawn_views=2", "evaluations.probe.eval_batch=4"
    )
    samples = drawn(tmp_path, "train", config)
    here = extraction(config, samples, f"{tmp_path}/here")
    expected = extract(here, samples, embedded=embedded_here(here, samples), budget=config.data.fault_budget)
    for workers in (1, 3):
        given = extraction(config, samples, f"{tmp_path}/{workers}")
        blocks = []

        def embed(skip, given=given, workers=workers, blocks=blocks):
            for answer in embedded(given, samples, placement(workers))(skip):
                blocks.append(answer[0].block)
                yield answer

        found = extract(given, samples, embedded=embed, budget=config.data.fault_budget)
        assert sorted(blocks) == list(range(12))
        rows, known = (joined(list(its.read(its.records()))) for its in (found, expected))
        for name, values in known.items():
            # Another process may have another number of threads, which may change the last bit.
            assert torch.allclose(rows[name].double(), values.double(), atol=1e-5), name


def test_blocks_that_are_there_are_not_made_again(ray_cluster, tmp_path):
    config = run_config(tmp_path)
    samples = drawn(tmp_path, "train", config)
    given = extraction(config, samples, str(tmp_path))
    made = [record.block for record, _ in embedded(given, samples, placement(1))({0, 2})]
    assert sorted(made) == [1, 3]


def test_work_on_a_worker_runs_in_another_process_and_fails_as_it_would_here(ray_cluster):
    def where(device):
        return device.type, os.getpid()

    kind, process = on_worker(where, placement(1))
    assert (kind, process != os.getpid()) == ("cpu", True)

    def fail(device):
        raise KeyError("what")

    with pytest.raises(KeyError, match="what"):
        on_worker(fail, placement(1))
