"""What the steps of a run are given, where they find each other's files, and what they hold of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mae_dist import storage
from mae_dist.config.load import to_dict
from mae_dist.config.schema import EvaluationConfig, RunConfig
from mae_dist.data.mix import MIX_FILE, part_file
from mae_dist.orchestrate.step import Demand, Step
from mae_dist.storage.fence import Fence


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What every step is given: the run, and what the cluster is."""

    config: RunConfig
    use_gpu: bool
    evaluation: str | None = None
    start_from: str | None = None
    features: str | None = None
    """Step whose features are learned from."""
    test_set: str | None = None
    """Key in the robustness of the evaluation."""
    is_test: bool = False
    fence: Fence | None = None


def before_evaluation(steps: list[Step], start_from: str) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """What an evaluation needs, and what it comes after."""
    samples, pretrain = named(steps, "catalog", "test_catalog"), named(steps, "pretrain")
    # The baseline does not depend on the pretraining, but does not compete with it either.
    return (samples + pretrain, ()) if start_from == "pretrained" else (samples, pretrain)


def named(steps: list[Step], *names: str) -> tuple[Step, ...]:
    """The steps of these names."""
    by_name = {step.name: step for step in steps}
    return tuple(by_name[name] for name in names)


def looked_at(config: RunConfig, inputs: Mapping[str, str]) -> dict[str, Any]:
    """What of a run every evaluation depends on."""
    fields = to_dict(config)
    labelled = {part: inputs[part] for part in ("labelled",) if part in inputs}
    return (
        {part: fields[part] for part in ("seed", "input", "model")}
        | {"limits": fields["data"]["limits"]}
        | labelled
    )


def training_file(folder: str, config: RunConfig) -> str:
    """What a pretraining trains on."""
    return storage.join(folder, MIX_FILE) if config.data.mix else catalog_file(folder)


def labelled_file(folder: str, config: RunConfig) -> str:
    """What evaluations train on."""
    data = config.data
    if data.labelled is None:
        return training_file(folder, config)
    return part_file(folder, sorted(data.mix).index(data.labelled))


def catalog_file(folder: str) -> str:
    """The catalog in a folder that a catalog step filled."""
    return storage.join(folder, "catalog.parquet")


def exported_weights(run: str) -> str:
    """What a pretraining in the folder `run` leaves."""
    return storage.join(run, "export", "model.safetensors")


def demand_of(config: RunConfig, evaluation: EvaluationConfig | None, use_gpu: bool) -> Demand:
    """What a training holds, or whatever else has workers that are fed by decode tasks."""
    # A training that may grow begins with the least.
    workers = config.workers_for(evaluation).least
    # One decode task at least has to fit beside the workers.
    cpus = workers * config.resources.cpus_per_worker + config.data.cpus_per_task
    data = config.data
    custom = {} if data.decode_resource is None else {data.decode_resource: data.cpus_per_task}
    return Demand(cpus=cpus, gpus=workers if use_gpu else 0, custom=custom)
