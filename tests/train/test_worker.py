"""What a worker tells the cluster beside its files."""

from __future__ import annotations

import re
import time
import urllib.request

import pytest

pytestmark = pytest.mark.slow
DEADLINE_SECONDS = 60


def exported(name: str) -> dict[str, float]:
    """Value by tags of one metric on the page that Prometheus reads, which is renewed now and then."""
    import ray

    [node] = ray.nodes()
    page = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        text = urllib.request.urlopen(page).read().decode()
        if found := re.findall(rf"^{name}{{(.*)}} (\S+)$", text, re.MULTILINE):
            return {tags: float(value) for tags, value in found}
        time.sleep(1)
    raise AssertionError(f"{page} never showed {name}")


def test_figures_are_gauges_and_counts_are_counters_for_prometheus(ray_cluster):
    import ray

    @ray.remote(num_cpus=0)
    class Worker:
        def publish(self) -> None:
            from mae_dist.train.worker import ClusterMetrics

            publish = ClusterMetrics(run="k400", training="pretrain")
            for faults in (2, 0, 3):
                publish({"data_wait_share": 0.25, "faults": faults})

    worker = Worker.remote()
    ray.get(worker.publish.remote())
    for name, expected in (("ray_mae_dist_data_wait_share", 0.25), ("ray_mae_dist_faults_total", 5.0)):
        [(tags, value)] = exported(name).items()
        assert value == expected
        assert 'run="k400"' in tags
        assert 'training="pretrain"' in tags
