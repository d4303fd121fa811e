"""Evaluations of a frozen encoder: extract features once, learn from them, write result.json.

    samples -> features (a step of its own, shared) -> feature_probe | attentive_probe | knn -> result.json

Everything that is chosen is chosen on held-out training samples; the test samples are scored once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mae_dist import storage
from mae_dist.config.load import to_dict
from mae_dist.config.schema import EvaluationConfig, RunConfig
from mae_dist.data.catalog import Catalog, labels_disagree
from mae_dist.data.mix import Samples, load_samples
from mae_dist.evaluate.accuracy import accuracy
from mae_dist.evaluate.attentive import AttentiveHeads
from mae_dist.evaluate.cluster import Placement, embedded, on_worker
from mae_dist.evaluate.extraction import extract, extraction_of
from mae_dist.evaluate.features import Features, layer_and_pool
from mae_dist.evaluate.heads import LinearHeads
from mae_dist.evaluate.neighbours import score_neighbours
from mae_dist.evaluate.probing import Heads, best_of, score_head, train_heads, validation_accuracies
from mae_dist.evaluate.progress import shower
from mae_dist.evaluate.split import validation_samples
from mae_dist.evaluate.windows import Windows
from mae_dist.train.scores import plain

PARTS = ("train", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenEvaluation:
    """One evaluation of frozen features as plain data."""

    config: RunConfig
    name: str
    """Key in config.evaluations."""
    catalog: str
    """Catalog file of the training samples, or the mix.json of several."""
    test_catalog: str
    output: str
    """Folder of what is written."""
    placement: Placement

    @property
    def protocol(self) -> EvaluationConfig:
        """The evaluation's config."""
        return self.config.evaluations[self.name]

    def samples(self, part: str) -> Samples:
        """The samples to learn from, as many as the protocol allows, or to score ("train", "test")."""
        if part == "test":
            return Catalog.load(self.test_catalog)
        few = self.protocol.labels_per_class
        return load_samples(self.catalog) if few is None else Catalog.load(self.catalog).subset(few)

    def views(self, part: str) -> int:
        """Rows that a sample has among the features."""
        drawn = self.protocol.features.drawn_views
        return drawn if part == "train" and drawn else self.protocol.views.count


def extract_features(job: FrozenEvaluation, *, weights: str | None) -> dict[str, Any]:
    """Extract training and test features below `job.output`, or what is missing of them.

    features.json says where they are, progress.json how far it is. Returns the counts. Raises ValueError,
    before anything is decoded, if the labels of the test samples mean something else or there are too few to
    hold some out.
    """
    samples = {part: job.samples(part) for part in PARTS}
    complaint = labels_disagree(samples["train"].classes, samples["test"].classes)
    if complaint:
        raise ValueError(f"{job.test_catalog}: {complaint}")
    _held_out(job, samples["train"])
    found: dict[str, str] = {}
    summary: dict[str, Any] = {}
    for part in PARTS:
        extraction = extraction_of(
            job.config,
            job.protocol,
            samples[part],
            root=storage.join(job.output, part),
            weights=weights,
            for_test=part == "test",
            use_gpu=job.placement.use_gpu,
        )
        features = extract(
            extraction,
            samples[part],
            embedded=embedded(extraction, samples[part], job.placement),
            budget=job.config.data.fault_budget,
            show=shower(job.output, f"{part} features, block"),
        )
        records = features.records()
        found[part] = features.uri.removeprefix(job.output).strip("/")
        summary[part] = {"views": sum(r.rows for r in records), "bytes": sum(r.size for r in records)}
    storage.write_json(storage.join(job.output, "features.json"), found)
    return summary


def evaluate_frozen(job: FrozenEvaluation, *, features: str, start_from: str) -> dict[str, Any]:
    """Learn from the features in a folder that `extract_features` filled; writes and returns result.json.

    Test samples that could not be read are in faults.jsonl.
    """
    protocol = job.protocol
    where = storage.read_json(storage.join(features, "features.json"))
    parts = {part: Features(storage.join(features, where[part])) for part in PARTS}
    outcome = on_worker(lambda device: PROTOCOLS[protocol.protocol](job, parts, device), job.placement)
    samples = job.samples("train")
    table = outcome["table"]
    result = {
        "evaluation": job.name,
        "protocol": protocol.protocol,
        "start_from": start_from,
        **accuracy(outcome["scores"], samples.classes),
        "settings": outcome["chosen"]
        | {
            "tried": len(table),
            "labels_per_class": protocol.labels_per_class,
            "training_samples": samples.num_samples,
            "held_out_samples": outcome["held_out"],
            "training_views": job.views("train"),
            "views": f"{protocol.views.clips} x {protocol.views.crops}",
        },
        "table": table,
        "published": None if protocol.published is None else to_dict(protocol.published),
    }
    faults = parts["train"].faults() + parts["test"].faults()
    if faults:
        lines = "".join(json.dumps({"step": 0} | fault) + "\n" for fault in faults)
        storage.write_bytes(storage.join(job.output, "faults.jsonl"), lines.encode())
    storage.write_json(storage.join(job.output, "result.json"), result)
    return result


Parts = Mapping[str, Features]
Outcome = dict[str, Any]
"""scores: counts by class of what was chosen. chosen: its settings. table: all that was tried, with its
accuracy on the held-out samples in percent. held_out: how many these were."""


def probe(job: FrozenEvaluation, parts: Parts, device: torch.device) -> Outcome:
    """Linear heads, or attentive ones: all trained side by side, the best one scored."""
    config, samples = job.protocol.heads, job.samples("train")
    held_out = _held_out(job, samples)
    names = parts["train"].names()
    width = job.config.model.architecture.encoder.width
    options: Any = {"seed": job.config.seed, "device": device}
    heads: Heads
    if job.protocol.protocol == "attentive_probe":
        [name] = names
        heads = AttentiveHeads(name, width, samples.num_classes, config, job.protocol.attentive, **options)
    else:
        heads = LinearHeads(names, width, samples.num_classes, config, **options)
    train_views, test_views = job.views("train"), job.views("test")
    steps = train_heads(
        heads,
        _windows(job, parts["train"], device, ~held_out),
        config,
        num_rows=int((~held_out).sum()) * train_views,
        seed=job.config.seed,
        show=shower(job.output, "heads, step"),
    )
    shares = validation_accuracies(heads, _windows(job, parts["train"], device, held_out), views=train_views)
    best = best_of(shares)
    table = [
        its | {"validation": None if share is None else round(100 * share, 3)}
        for its, share in zip(heads.settings(), shares, strict=True)
    ]
    test = _windows(job, parts["test"], device)
    scores = score_head(heads, best, test, views=test_views, num_classes=samples.num_classes)
    return {
        "scores": plain(scores),
        "chosen": table[best] | {"optimiser": config.kind, "batch": config.batch, "updates": steps},
        "table": table,
        "held_out": int(held_out.sum()),
    }


def knn(job: FrozenEvaluation, parts: Parts, device: torch.device) -> Outcome:
    """Votes of the nearest training samples; features and k as the held-out samples want them."""
    config, samples = job.protocol.knn, job.samples("train")
    held_out = _held_out(job, samples)
    options: Any = {"temperature": config.temperature, "num_classes": samples.num_classes}
    options |= {"bank_views": job.views("train")}
    trial = score_neighbours(
        _windows(job, parts["train"], device, held_out),
        _windows(job, parts["train"], device, ~held_out),
        names=parts["train"].names(),
        neighbours=config.neighbours,
        query_views=job.views("train"),
        **options,
    )
    shares = {
        tried: round(float(100 * its["correct"].sum() / its["total"].sum()), 3)
        for tried, its in trial.items()
    }
    name, k = max(shares, key=shares.__getitem__)
    scores = score_neighbours(
        _windows(job, parts["test"], device),
        _windows(job, parts["train"], device),
        names=[name],
        neighbours=[k],
        query_views=job.views("test"),
        **options,
    )
    table = [_neighbour_settings(*tried) | {"validation": share} for tried, share in shares.items()]
    return {
        "scores": plain(scores[name, k]),
        "chosen": _neighbour_settings(name, k)
        | {"validation": shares[name, k], "temperature": config.temperature},
        "table": table,
        "held_out": int(held_out.sum()),
    }


PROTOCOLS: dict[str, Callable[[FrozenEvaluation, Parts, torch.device], Outcome]] = {
    "feature_probe": probe,
    "attentive_probe": probe,
    "knn": knn,
}


def _held_out(job: FrozenEvaluation, samples: Samples) -> np.ndarray:
    return validation_samples(samples, share=job.protocol.features.validation_share, seed=job.config.seed)


def _windows(
    job: FrozenEvaluation, features: Features, device: torch.device, wanted: np.ndarray | None = None
) -> Windows:
    return Windows(features, memory_gb=job.protocol.features.memory_gb, device=device, wanted=wanted)


def _neighbour_settings(name: str, k: int) -> dict[str, Any]:
    layer, pool = layer_and_pool(name)
    return {"layer": layer, "pool": pool, "neighbours": k}
