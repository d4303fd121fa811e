"""A run as steps: catalogs, pretraining, the evaluations side by side, the report.

catalog -> (target) -> pretrain -> reconstruction, evaluations from pretrained and random weights -> report
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mae_dist import storage
from mae_dist.config.duration import Duration
from mae_dist.config.jobs import JobsConfig
from mae_dist.config.load import digest, to_dict, to_yaml
from mae_dist.config.probing import FROZEN_PROTOCOLS, FROZEN_SECTIONS
from mae_dist.config.schema import EvaluationConfig, RunConfig, SourceConfig
from mae_dist.data.catalog import Catalog
from mae_dist.data.mix import Mix
from mae_dist.data.sources import make_mix, make_source
from mae_dist.evaluate.classification import evaluate_encoder
from mae_dist.evaluate.detection import evaluate_detector
from mae_dist.evaluate.reconstruction import evaluate_reconstruction
from mae_dist.model.weights.header import exported_weights
from mae_dist.orchestrate.estimate import Work, scaled
from mae_dist.orchestrate.frozen import frozen_steps
from mae_dist.orchestrate.given import given_identity, given_step
from mae_dist.orchestrate.job import (
    Job,
    before_evaluation,
    catalog_file,
    demand_of,
    labelled_file,
    looked_at,
    start_name,
    training_file,
    weights_of,
    with_checkpoint,
)
from mae_dist.orchestrate.kept import kept_finder
from mae_dist.orchestrate.preflight import people_input
from mae_dist.orchestrate.provenance import environment
from mae_dist.orchestrate.robustness import robustness_steps
from mae_dist.orchestrate.starts import start_identity
from mae_dist.orchestrate.step import PRETRAINING, Demand, Patience, Step
from mae_dist.orchestrate.targets import TARGET, target_file, target_steps
from mae_dist.report.publish import read_documents, write_report
from mae_dist.report.tracking import log_report
from mae_dist.storage.fence import Fence
from mae_dist.train.launch import run_training
from mae_dist.train.training import Training


def run_uri(config: RunConfig, inputs: Mapping[str, str]) -> str:
    """The run directory: storage, name and a digest of what decides the pretraining."""
    return storage.join(config.storage, f"{config.name}-{digest(pretraining_identity(config, inputs))}")


def pretraining_identity(config: RunConfig, inputs: Mapping[str, str]) -> dict[str, Any]:
    """All that the pretrained weights depend on, as plain data; where and how fast they are made is left out.

    `inputs` maps "catalog" to what `preflight.check_inputs` says of the samples, "start" of the weights.
    """
    if config.weights is not None:
        return given_identity(config, inputs)
    fields = to_dict(config)
    # What is in the file that a path names, not where it lies.
    fields["target"]["tokenizer"] = inputs.get("tokenizer")
    decides = ("seed", "input", "model", "mask", "target", "tokenizer", "augment")
    # How a global batch is cut and with what memory and code it is computed is a matter of the machines.
    aside = {"micro_batch", "activation_checkpointing", "compile"}
    train = {name: value for name, value in fields["train"].items() if name not in aside}
    identity = {name: fields[name] for name in decides} | {"train": train}
    # A sample beyond the limits is replaced by another one.
    identity |= {"catalog": inputs["catalog"], "limits": fields["data"]["limits"]}
    return identity | start_identity(config, inputs)


def build_steps(
    config: RunConfig, inputs: Mapping[str, str], *, use_gpu: bool, fence: Fence | None = None
) -> list[Step]:
    """The steps of a run in an order that respects their needs; inputs as for `pretraining_identity`."""
    job = Job(config=config, use_gpu=use_gpu, fence=fence)
    train_samples = Step(
        name="catalog",
        run=make_catalog,
        config=job,
        identity=inputs["catalog"],
        output="catalog/train",
        priority=PRETRAINING,
    )
    prepared = target_steps(job, inputs, train_samples)
    pretrain = Step(
        name="pretrain",
        run=run_pretraining,
        config=job,
        identity=pretraining_identity(config, inputs),
        output="",
        needs=(train_samples, *prepared),
        demand=demand_of(config, None, use_gpu),
        priority=PRETRAINING,
        saves=True,
    )
    if config.weights is not None:
        pretrain = given_step(job, inputs)
    steps = [train_samples, *prepared, pretrain]
    if config.data.test_catalog is not None:
        test_samples = Step(
            name="test_catalog",
            run=make_catalog,
            config=Job(config=config, use_gpu=use_gpu, is_test=True),
            identity=inputs["test_catalog"],
            output="catalog/test",
        )
        steps.append(test_samples)
        has_decoder = inputs.get("decoder") != "none"  # weights that are given may be an encoder alone
        if has_decoder and config.target.gives_pixels and config.tokenizer is None:
            steps.append(
                Step(
                    name="reconstruction",
                    run=run_reconstruction,
                    config=job,
                    identity={"gallery_samples": config.gallery_samples},
                    output="evaluations/reconstruction",
                    needs=(pretrain, test_samples),
                    demand=Demand(cpus=1),
                )
            )
        for name, protocol in config.evaluations.items():
            for start_from in protocol.start_from:
                steps += _evaluation_steps(job, name, start_from, steps, inputs)
    report = Step(
        name="report",
        run=run_report,
        config=job,
        identity="report",
        output="report",
        after=tuple(steps),
        always=True,
    )
    return [replace(step, patience=_patience(config.jobs, step)) for step in (*steps, report)]


def _patience(jobs: JobsConfig, step: Step) -> Patience:
    hours = jobs.pretrain_timeout_hours if step.name == "pretrain" else jobs.timeout_hours
    return Patience(
        timeout_seconds=None if hours is None else 3600 * hours,
        retries=jobs.retries,
        backoff_seconds=jobs.backoff_seconds,
    )


def find_kept(
    config: RunConfig,
    inputs: Mapping[str, str],
    steps: Sequence[Step],
    *,
    uri: str,
    use_gpu: bool,
    fence: Fence | None = None,
) -> Callable[[], list[Step]]:
    """What finds the steps that evaluate kept checkpoints of the run directory `uri`, by what lies there."""
    job = Job(config=config, use_gpu=use_gpu, fence=fence)

    def make_steps(its: Job, name: str, before: list[Step]) -> list[Step]:
        return _evaluation_steps(its, name, "pretrained", before, inputs)

    return kept_finder(job, uri, steps, make_steps)


def _evaluation_steps(
    job: Job, name: str, start_from: str, before: list[Step], inputs: Mapping[str, str]
) -> list[Step]:
    protocol = job.config.evaluations[name]
    if protocol.protocol in FROZEN_PROTOCOLS:
        return frozen_steps(job, name, protocol, start_from, before, inputs)
    evaluation = _evaluation_step(job, name, protocol, start_from, before, inputs)
    if job.checkpoint is not None:
        return [evaluation]
    return [evaluation, *robustness_steps(job, name, protocol, start_from, evaluation, inputs)]


def _evaluation_step(
    job: Job,
    name: str,
    protocol: EvaluationConfig,
    start_from: str,
    before: list[Step],
    inputs: Mapping[str, str],
) -> Step:
    needs, after = before_evaluation(job, before, start_from)
    start = start_name(job, start_from)
    # Other starts, checkpoints and test sets are steps of their own; workers are a matter of the machines.
    aside = {"start_from", "checkpoints", "robustness", "workers", *FROZEN_SECTIONS}
    fields = to_dict(protocol)
    people = {part: inputs[part] for part in (people_input(name),) if part in inputs}
    return Step(
        name=f"{name}-{start}",
        run=run_evaluation,
        config=replace(job, evaluation=name, start_from=start_from),
        identity=looked_at(job.config, inputs)
        | people
        | {part: value for part, value in fields.items() if part not in aside},
        output=f"evaluations/{name}-{start}",
        needs=needs,
        after=after,
        demand=demand_of(job.config, protocol, job.use_gpu),
        saves=True,
    )


def make_catalog(job: Job, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """List the samples of the recipe's source, drawing them first where the source says so."""
    data = job.config.data
    if data.mix and not job.is_test:
        made = make_mix(data.mix, work_folder=output)
        made.save(output)
        return {"source": data.sources, "digest": made.digest, "num_samples": made.num_samples}
    source = data.test_catalog if job.is_test else data.catalog
    assert source is not None
    catalog = make_source(source, work_folder=output)
    catalog.save(catalog_file(output))
    return {"source": source, "digest": catalog.digest, "num_samples": catalog.num_samples}


def run_pretraining(job: Job, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Train the masked autoencoder and export it."""
    catalog = training_file(inputs["catalog"], job.config)
    made = target_file(job.config, inputs.get(TARGET, ""))
    training = Training(config=job.config, output=output, catalog=catalog, target_file=made, fence=job.fence)
    return run_training(training, use_gpu=job.use_gpu)


def run_reconstruction(job: Job, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Held-out reconstruction error and gallery."""
    return evaluate_reconstruction(
        job.config,
        weights=exported_weights(inputs["pretrain"]),
        catalog=catalog_file(inputs["test_catalog"]),
        output=output,
    )


def run_evaluation(job: Job, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """One protocol from one starting point."""
    assert job.evaluation is not None
    assert job.start_from is not None
    training = Training(
        config=job.config,
        fence=job.fence,
        output=output,
        catalog=labelled_file(inputs["catalog"], job.config),
        test_catalog=catalog_file(inputs["test_catalog"]),
        evaluation=job.evaluation,
        weights=weights_of(job, inputs),
    )
    is_detection = job.config.evaluations[job.evaluation].protocol == "detect"
    evaluate = evaluate_detector if is_detection else evaluate_encoder
    start = start_name(job, job.start_from)
    result = evaluate(training, name=job.evaluation, start_from=start, use_gpu=job.use_gpu)
    return with_checkpoint(job, output, result)


def run_report(job: Job, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Write the page and report.json into the run directory."""
    run = output.removesuffix("/report")
    where = storage.join(run, "environment.json")
    storage.write_json(where, storage.read_json(where) | _catalogs(run, job.config))
    report = write_report(run)
    if job.config.log.mlflow is not None:
        log_report(report, read_documents(run), tracking_uri=job.config.log.mlflow)
    return {"state": report["state"]}


def prepare(uri: str, config: RunConfig, *, cluster: Mapping[str, float], use_gpu: bool) -> None:
    """Write config.yaml and environment.json into the run directory."""
    storage.write_bytes(storage.join(uri, "config.yaml"), to_yaml(config).encode())
    found = environment(cluster=dict(cluster), device="gpu" if use_gpu else "cpu")
    storage.write_json(storage.join(uri, "environment.json"), found)


def describe_steps(steps: Sequence[Step], work: Mapping[str, Work]) -> str:
    """The steps with what they need, hold and have to do, one line each."""
    lines = []
    for step in steps:
        before = ", ".join(other.name for other in (*step.needs, *step.after)) or "nothing"
        held = {"CPUs": step.demand.cpus, "GPUs": step.demand.gpus} | dict(step.demand.custom)
        holds = ", ".join(f"{amount:g} {resource}" for resource, amount in held.items())
        does = ""
        if step.name in work:
            its = work[step.name]
            does = f"; {its.passes:,} samples seen, {scaled(its.operations)}FLOP"
        lines.append(f"{step.name:<32} {holds}; after {before}{does}")
    return "\n".join(lines)


def describe_kept(config: RunConfig) -> list[str]:
    """What is evaluated while the pretraining goes on, one line per evaluation that is."""
    lines = []
    for name, evaluation in config.evaluations.items():
        lengths = [f"{length}" for length in evaluation.checkpoints if isinstance(length, Duration)]
        if lengths:
            often = ", ".join(lengths)
            lines.append(
                f"{f'{name}-pretrained@STEP':<32} every {often} of the pretraining, on what is spare"
            )
    return lines


def _catalogs(store_uri: str, config: RunConfig) -> dict[str, Any]:
    train = training_file(storage.join(store_uri, "catalog", "train"), config)
    test = catalog_file(storage.join(store_uri, "catalog", "test"))
    data = config.data
    return {
        "catalog": _described_mix(train, data.mix) if data.mix else _described(train, data.catalog),
        "test_catalog": _described(test, data.test_catalog),
    }


def _described(file: str, source: str | None) -> dict[str, Any] | None:
    if source is None or not storage.exists(file):
        return None
    catalog = Catalog.load(file)
    return {"uri": source, "digest": catalog.digest, "num_samples": catalog.num_samples}


def _described_mix(file: str, sources: Mapping[str, SourceConfig]) -> dict[str, Any] | None:
    if not storage.exists(file):
        return None
    mix = Mix.load(file)
    parts = {
        name: {
            "uri": sources[name].catalog,
            "digest": part.catalog.digest,
            "num_samples": part.catalog.num_samples,
            "share": part.weight / mix.total_weight,
        }
        for name, part in zip(sorted(sources), mix.parts, strict=True)
    }
    return {
        "uri": f"mix of {', '.join(parts)}",
        "digest": mix.digest,
        "num_samples": mix.num_samples,
        "sources": parts,
    }
