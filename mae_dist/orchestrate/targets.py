"""The step that makes or fetches what a target is made with, once for all ranks and all attempts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from mae_dist import storage
from mae_dist.config.load import to_dict
from mae_dist.config.schema import RunConfig
from mae_dist.model.weights.header import weights_file
from mae_dist.orchestrate.job import Job, training_file
from mae_dist.orchestrate.step import PRETRAINING, Demand, Step
from mae_dist.train.basis import make_basis
from mae_dist.train.training import Training

TARGET = "target"
"""Name of the step, and the folder in the run directory that it fills."""


def target_file(config: RunConfig, folder: str) -> str | None:
    """What the target is made with, in the folder that the step filled; None: nothing is needed."""
    return storage.join(folder, f"{config.target.kind}.safetensors") if config.target.is_made else None


def target_steps(job: Job, inputs: Mapping[str, str], samples: Step) -> tuple[Step, ...]:
    """The step, after the catalog's `samples`, for a target that needs one; inputs as for `build_steps`."""
    config = job.config
    if not config.target.is_made or config.weights is not None:
        return ()
    fields = to_dict(config)
    fields["target"]["tokenizer"] = inputs.get("tokenizer")
    decides = ("seed", "input", "model", "target", "augment")
    return (
        Step(
            name=TARGET,
            run=make_target,
            config=job,
            identity={name: fields[name] for name in decides} | {"limits": fields["data"]["limits"]},
            output=TARGET,
            needs=(samples,),
            demand=Demand(cpus=1),
            priority=PRETRAINING,
        ),
    )


def make_target(job: Job, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Write what the target is made with: the basis of pca, a copy of the tokenizer of token."""
    config, about = job.config, {}
    if config.target.kind == "pca":
        catalog = training_file(inputs["catalog"], config)
        data, about["variance_share"] = make_basis(Training(config=config, output=output, catalog=catalog))
    else:
        assert config.target.tokenizer is not None
        data = storage.read_bytes(weights_file(config.target.tokenizer))
    file = target_file(config, output)
    assert file is not None
    if job.fence is not None:
        job.fence.check()
    storage.write_bytes(file, data)
    return about | {"sha256": hashlib.sha256(data).hexdigest()}
