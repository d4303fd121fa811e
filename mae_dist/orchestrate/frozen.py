"""Evaluations of frozen features as steps: one extraction for all that need it, and what learns from it.

catalogs, pretrain -> features -> feature_probe, attentive_probe, knn
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mae_dist.config.load import digest, to_dict
from mae_dist.config.probing import FROZEN_SECTIONS, KEPT_FEATURES
from mae_dist.config.schema import EvaluationConfig
from mae_dist.evaluate.cluster import Placement
from mae_dist.evaluate.frozen import FrozenEvaluation, evaluate_frozen, extract_features
from mae_dist.orchestrate.job import (
    Job,
    before_evaluation,
    catalog_file,
    demand_of,
    labelled_file,
    looked_at,
    named,
    start_name,
    weights_of,
    with_checkpoint,
)
from mae_dist.orchestrate.step import Demand, Step


def frozen_steps(
    job: Job,
    name: str,
    protocol: EvaluationConfig,
    start_from: str,
    before: list[Step],
    inputs: Mapping[str, str],
) -> list[Step]:
    """The evaluation of frozen features, and their extraction unless an evaluation before it has the same."""
    needs, after = before_evaluation(job, before, start_from)
    fields = to_dict(protocol)
    kept = {part: fields["features"][part] for part in KEPT_FEATURES}
    if protocol.protocol == "attentive_probe":
        kept["pools"] = "tokens"
    given = {
        part: fields[part] for part in ("augment", "sampling", "views", "eval_batch", "labels_per_class")
    }
    identity = looked_at(job.config, inputs) | given | kept
    job, start = replace(job, evaluation=name, start_from=start_from), start_name(job, start_from)
    extraction = Step(
        name=f"features-{digest(identity)[:6]}-{start}",
        run=run_extraction,
        config=job,
        identity=identity,
        output=f"features/{start}-{digest(identity)[:6]}",
        needs=needs,
        after=after,
        demand=demand_of(job.config, protocol, job.use_gpu),
    )
    known = {step.key: step for step in before}
    features = known.get(extraction.key, extraction)
    cpus, gpus = job.config.resources.cpus_per_worker, 1.0 if job.use_gpu else 0.0
    evaluation = Step(
        name=f"{name}-{start}",
        run=run_frozen,
        # Whoever extracts first gives the features their name.
        config=replace(job, features=features.name),
        identity={part: fields[part] for part in ("protocol", "published", *FROZEN_SECTIONS)}
        | {"seed": job.config.seed},
        output=f"evaluations/{name}-{start}",
        needs=(*named(before, "catalog", "test_catalog"), features),
        demand=Demand(cpus=cpus, gpus=gpus),
    )
    return [evaluation] if features is not extraction else [extraction, evaluation]


def run_extraction(job: Job, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """The features of training and test samples from one starting point."""
    return extract_features(_given(job, output, inputs), weights=weights_of(job, inputs))


def run_frozen(job: Job, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """One protocol on features that were extracted."""
    assert job.features is not None
    assert job.start_from is not None
    given = _given(job, output, inputs)
    start = start_name(job, job.start_from)
    result = evaluate_frozen(given, features=inputs[job.features], start_from=start)
    return with_checkpoint(job, output, result)


def _given(job: Job, output: str, inputs: Mapping[str, str]) -> FrozenEvaluation:
    config = job.config
    assert job.evaluation is not None
    return FrozenEvaluation(
        config=config,
        name=job.evaluation,
        catalog=labelled_file(inputs["catalog"], config),
        test_catalog=catalog_file(inputs["test_catalog"]),
        output=output,
        placement=placement_of(job, job.evaluation),
    )


def placement_of(job: Job, evaluation: str) -> Placement:
    """What the frozen models of an evaluation, and the decoding for them, ask of the cluster."""
    config = job.config
    return Placement(
        workers=config.workers_for(config.evaluations[evaluation]).least,
        cpus_per_worker=config.resources.cpus_per_worker,
        use_gpu=job.use_gpu,
        cpus_per_task=config.data.cpus_per_task,
        decode_resource=config.data.decode_resource,
    )
