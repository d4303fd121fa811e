"""A node that is drained tells the workers on it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import logging, os, time, ray

@ray.remote(num_cpus=0)
def train(gcs_address):
    from ray._raylet import GcsClient
    from mae_dist.train import notices
    from mae_dist.train.stopping import Request, StopRequest

    told = [notices.look().name]
    node, in_a_minute = ray.get_runtime_context().get_node_id(), int(time.time() * 1000) + 60_000
    PREEMPTION = 2  # DRAIN_NODE_REASON_PREEMPTION
    told.append(GcsClient(gcs_address).drain_node(node, PREEMPTION, "spot", in_a_minute))
    stop = StopRequest()
    notices.LOOK_SECONDS = 0.01
    with notices.NoticeReader(stop):
        while stop.agreed() is Request.NONE:
            time.sleep(0.01)
    return [*told, stop.agreed().name]

context = ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level=logging.ERROR)
print(ray.get(train.remote(context.address_info["gcs_address"])), flush=True)
os._exit(0)  # the node is on its way out, and an orderly farewell would wait for it
"""


@pytest.mark.slow
def test_a_worker_on_a_node_that_is_drained_is_asked_to_move(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    shown = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    assert shown.splitlines()[-1] == "['NONE', (True, ''), 'MOVE']"
