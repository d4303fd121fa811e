"""The stream over several nodes: decoded where CPUs are free, whole when a node dies, never on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def run_case(case: str, folder: Path) -> dict[str, Any]:
    """In a process of its own, because this one belongs to the session's Ray; with a private home."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.stream_cluster", str(folder), case],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    # The file is the last thing a case writes. The exit status says nothing: Ray ends with an error where a
    # cluster goes while a stream still runs through it.
    result = folder / f"{case}.json"
    assert result.exists(), done.stderr
    return json.loads(result.read_text())


def test_blocks_are_built_on_every_node_with_a_free_cpu_and_not_on_the_trainers(tmp_path):
    result = run_case("everywhere", tmp_path)
    assert result["seen"] == result["decode"]


def test_a_resource_keeps_decoding_on_the_nodes_that_carry_it(tmp_path):
    """Though other nodes have a free CPU."""
    result = run_case("pinned", tmp_path)
    assert result["seen"] == result["decode"]


def test_no_sample_is_lost_or_doubled_when_a_decode_node_dies(tmp_path):
    result = run_case("lost_node", tmp_path)
    assert result["killed"]
    assert result["by_killed"] > 0
    assert result["blocks_in_order"]
    assert result["same_content"]


def test_a_small_object_store_slows_decoding_down_instead_of_spilling(tmp_path):
    """Ten times what the store holds; the trainers' memory after the start does not grow with it."""
    result = run_case("small_store", tmp_path)
    assert result["blocks"] == 220
    assert result["megabytes"] > 2000
    assert result["spilled_megabytes"] <= 0.02 * result["megabytes"]
    for start, most in zip(result["memory_after_the_start"], result["memory_at_most"], strict=True):
        assert most - start < 64
