"""Linear probe and fine-tuning: train a classifier, score it, write result.json."""

from __future__ import annotations

from typing import Any

from mae_dist import storage
from mae_dist.data.catalog import Catalog, labels_disagree
from mae_dist.data.mix import load_samples
from mae_dist.evaluate.accuracy import accuracy
from mae_dist.train.launch import run_training
from mae_dist.train.training import Training


def evaluate_encoder(training: Training, *, name: str, start_from: str, use_gpu: bool) -> dict[str, Any]:
    """Run one evaluation of a run from one starting point and write its result.json; returns the result.

    Every test sample is counted once. What a sample became that could not be read is in faults.jsonl. Raises
    ValueError, before anything is trained, if the labels of the test samples mean something else.
    """
    protocol = training.protocol
    assert protocol is not None
    assert training.test_catalog is not None
    train, samples = protocol.training, load_samples(training.catalog)
    complaint = labels_disagree(samples.classes, Catalog.load(training.test_catalog).classes)
    if complaint:
        raise ValueError(f"{training.test_catalog}: {complaint}")
    summary = run_training(training, use_gpu=use_gpu)
    result = {
        "evaluation": name,
        "protocol": protocol.protocol,
        "start_from": start_from,
        **accuracy(summary["scores"], samples.classes),
        "settings": {
            "length": str(train.length),
            "global_batch": train.global_batch,
            "optimiser": train.optim.kind,
            "peak_lr": train.peak_lr,
            "labels_per_class": protocol.labels_per_class,
            "trainable_blocks": protocol.trainable_blocks,
            "training_samples": summary["num_training_samples"],
            "pool": protocol.head.pool,
            # Stated because batch normalisation over few or many samples gives different probes.
            "batch_norm_samples": train.micro_batch if protocol.protocol == "linear_probe" else None,
            "workers": summary["world"],
            "views": f"{protocol.views.clips} x {protocol.views.crops}",
        },
        "published": None
        if protocol.published is None
        else {"value": protocol.published.value, "source": protocol.published.source},
    }
    storage.write_json(storage.join(training.output, "result.json"), result)
    return result
