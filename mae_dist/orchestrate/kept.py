"""Evaluations of checkpoints that a pretraining keeps, found while it goes on.

a checkpoint is published -> weights@STEP -> NAME-pretrained@STEP of every evaluation that asks for it

They run on spare capacity alone (see admission.py), and what they are called says at which step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mae_dist import storage
from mae_dist.config.duration import Duration
from mae_dist.orchestrate.job import Job, training_file, weights_name
from mae_dist.orchestrate.step import SPARE, Demand, Step
from mae_dist.orchestrate.targets import TARGET, target_file
from mae_dist.train import checkpoint
from mae_dist.train.kept import export_checkpoint
from mae_dist.train.training import Training

FOLDER = "kept"

MakeSteps = Callable[[Job, str, list[Step]], list[Step]]
"""The steps of one evaluation (by its name), given those that come before, with the weights among them."""


def kept_finder(
    job: Job, run_uri: str, steps: Sequence[Step], make_steps: MakeSteps
) -> Callable[[], list[Step]]:
    """What returns the steps for all checkpoints that are there by now, with those that it returned before.

    `steps` are the run's own. Raises StorageError if the run directory cannot be read.
    """
    by_name = {step.name: step for step in steps}
    asked = {
        name: [length for length in evaluation.checkpoints if isinstance(length, Duration)]
        for name, evaluation in job.config.evaluations.items()
    }
    train = job.config.train

    def find() -> list[Step]:
        if not any(asked.values()):
            return []
        record = storage.join(run_uri, by_name["catalog"].output, "DONE.json")
        if not storage.exists(record):
            return []
        known = storage.read_json(record)["summary"]["num_samples"]
        size: dict[str, Any] = {"samples_per_epoch": known, "global_batch": train.global_batch}
        saved = checkpoint.complete_steps(storage.join(run_uri, "checkpoints"))
        found: dict[int, list[Step]] = {}
        for name, lengths in asked.items():
            wanted = {at for length in lengths for at in firsts(saved, every=max(1, length.steps(**size)))}
            for at in sorted(wanted - {train.length.steps(**size)}):
                its = replace(job, checkpoint=at)
                before = found.setdefault(at, [_weights_step(its, at, by_name)])
                before += make_steps(its, name, [by_name["catalog"], by_name["test_catalog"], *before])
        made = [step for at in sorted(found) for step in found[at]]
        return [replace(step, priority=SPARE, patience=by_name["report"].patience) for step in made]

    return find


def firsts(saved: Sequence[int], *, every: int) -> list[int]:
    """The first saved step of every `every` steps but the first ones, in order: those that are kept."""
    first = {step // every: step for step in sorted(saved, reverse=True)}
    return [first[period] for period in sorted(first) if period > 0]


def _weights_step(job: Job, at: int, by_name: Mapping[str, Step]) -> Step:
    return Step(
        name=weights_name(at),
        run=run_export,
        config=job,
        identity={"pretraining": by_name["pretrain"].key, "step": at},
        output=f"{FOLDER}/step-{at:09d}",
        needs=(by_name["catalog"],),
        demand=Demand(cpus=1),
    )


def run_export(job: Job, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Write the weights of one checkpoint."""
    assert job.checkpoint is not None
    run = output.rpartition(f"/{FOLDER}/")[0]
    training = Training(
        config=job.config,
        output=output,
        catalog=training_file(inputs["catalog"], job.config),
        target_file=target_file(job.config, storage.join(run, TARGET)),
        fence=job.fence,
    )
    return export_checkpoint(training, checkpoints=storage.join(run, "checkpoints"), step=job.checkpoint)
