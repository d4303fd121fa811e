"""What the steps of a run are given, where they find each other's files, and what they hold of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mae_dist import storage
from mae_dist.config.load import to_dict
from mae_dist.config.schema import EvaluationConfig, RunConfig
from mae_dist.data.mix import MIX_FILE, part_file
from mae_dist.model.weights.header import exported_weights
from mae_dist.orchestrate.step import Demand, Step
from mae_dist.storage.fence import Fence


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What every step is given: the run, and what the cluster is."""

    config: RunConfig
    use_gpu: bool
    evaluation: str | None = None
    start_from: str | None = None
    checkpoint: int | None = None
    """Step of the kept checkpoint that is evaluated; None: the final weights, or random ones."""
    features: str | None = None
    """Step whose features are learned from."""
    test_set: str | None = None
    """Key in the robustness of the evaluation."""
    is_test: bool = False
    fence: Fence | None = None


def before_evaluation(
    job: Job, steps: list[Step], start_from: str
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """What an evaluation needs, and what it comes after."""
    samples = named(steps, "catalog", "test_catalog")
    if job.checkpoint is not None:
        return samples + named(steps, weights_name(job.checkpoint)), ()
    pretrain = named(steps, "pretrain")
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


def start_name(job: Job, start_from: str) -> str:
    """What an evaluation begins with, as folders and results call it."""
    return start_from if job.checkpoint is None else f"{start_from}@{job.checkpoint}"


def weights_name(checkpoint: int) -> str:
    """The step that takes the weights out of the checkpoint of a step of the pretraining."""
    return f"weights@{checkpoint}"


def weights_of(job: Job, inputs: Mapping[str, str]) -> str | None:
    """The weights that an evaluation begins with; None for random ones."""
    if job.start_from != "pretrained":
        return None
    maker = "pretrain" if job.checkpoint is None else weights_name(job.checkpoint)
    return exported_weights(inputs[maker])


def with_checkpoint(job: Job, output: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation's result, which says of a kept checkpoint of which step it is, also in result.json."""
    if job.checkpoint is None:
        return dict(result)
    known = dict(result) | {"pretraining_step": job.checkpoint}
    storage.write_json(storage.join(output, "result.json"), known)
    return known


def demand_of(config: RunConfig, evaluation: EvaluationConfig | None, use_gpu: bool) -> Demand:
    """What a training holds, or whatever else has workers that are fed by decode tasks."""
    # A training that may grow begins with the least.
    workers = config.workers_for(evaluation)
    # One decode task at least has to fit beside the workers.
    resources, data = config.resources, config.data
    worker = {"CPU": resources.cpus_per_worker} | ({"GPU": 1.0} if use_gpu else {})
    custom = {} if data.decode_resource is None else {data.decode_resource: data.cpus_per_task}
    return Demand(
        cpus=workers.least * resources.cpus_per_worker + data.cpus_per_task,
        gpus=workers.least if use_gpu else 0,
        custom=custom,
        parts=(worker,) * workers.least + ({"CPU": data.cpus_per_task} | custom,),
        growth=(worker,) * (workers.most - workers.least),
    )
