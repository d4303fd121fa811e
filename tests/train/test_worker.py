"""What a worker tells the cluster beside its files."""

from __future__ import annotations

import re
import time
import urllib.request

import pytest

from tests.ranks import run_ranks

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


def evaluated_weights(rank: int, folder: str) -> dict[str, float]:
    """Trains two steps of a fine-tuning under ZeRO-3; how far the task that is scored lies from averages."""
    import numpy as np
    import torch

    from mae_dist.config.load import load
    from mae_dist.data.catalog import Catalog
    from mae_dist.train import worker, zero
    from mae_dist.train.engine import whole_weights
    from mae_dist.train.training import Training

    zero.WHOLE_NUMEL = 100
    # Three classes: a bias that two ranks cannot share evenly.
    settings = ["resources={zero_stage: 3, workers: 2}", "evaluations.finetune.train.ema=0.5"]
    settings += ["evaluations.finetune.train.activation_checkpointing=true"]
    config = load("pretrain/demo", settings)
    training = Training(config=config, output=folder, catalog="catalog.parquet", evaluation="finetune")
    keys = [f"{number}.png" for number in range(100)]
    labels = np.arange(100) % 3
    catalog = Catalog.of(keys=keys, uris=keys, media="image", labels=labels, classes=list("abc"))
    device = torch.device("cpu")
    task = worker.build_task(training, num_classes=3)
    engine = worker.build_engine(task, training, training.pace(catalog, world=2), device)
    pixels = (training.train.micro_batch, config.input.frames, config.input.height, config.input.width, 3)
    for block in (rank, 2 + rank):
        torch.manual_seed(block)
        clips = torch.randint(0, 256, pixels, dtype=torch.uint8)
        batch = {"clips": clips, "label": torch.randint(0, 3, pixels[:1]), "block": block}
        engine.backward(engine(batch).loss)
        engine.step(1e-3)
    trained = worker.trained_task(training, engine, num_classes=3, device=device)
    distances = {}
    for kind in ("ema", "weight"):
        whole = whole_weights(engine, kind=kind, device=device)
        pairs = [
            (p.detach().flatten(), whole.flat(kind, n, p.numel())) for n, p in trained.named_parameters()
        ]
        distances[kind] = max(float((found - expected).abs().max()) for found, expected in pairs)
    batch["counted"] = torch.ones(len(clips), dtype=torch.bool)
    # Ranks score as many batches as they have, each for itself.
    distances["scored"] = float(trained.score(batch)["total"].sum()) if rank == 0 else 0.0
    return distances | {"held": sum(parameter.numel() for parameter in task.parameters())}


def test_what_is_scored_are_the_averaged_weights_whole_even_where_training_cut_them(tmp_path):
    first, second = run_ranks(2, evaluated_weights, str(tmp_path))
    assert first["ema"] == second["ema"] == 0
    assert first["weight"] > 0
    assert first["scored"] > 0
    assert first["held"] < 10_000  # of hundreds of thousands; the rest is partitioned
