"""Other test sets for fine-tuned weights as steps, each after the fine-tuning that it scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mae_dist.config.load import to_dict
from mae_dist.config.schema import EvaluationConfig
from mae_dist.evaluate.robustness import RobustnessTest, score_robustness
from mae_dist.model.weights.header import exported_weights
from mae_dist.orchestrate.frozen import placement_of
from mae_dist.orchestrate.job import Job, demand_of
from mae_dist.orchestrate.preflight import robustness_input
from mae_dist.orchestrate.step import Step


def robustness_steps(
    job: Job,
    name: str,
    protocol: EvaluationConfig,
    start_from: str,
    fine_tuning: Step,
    inputs: Mapping[str, str],
) -> list[Step]:
    """A step for each test set of an evaluation whose place is given."""
    steps = []
    for test_set, its in protocol.robustness.items():
        if its.catalog is None:
            continue
        # A dot keeps the name apart from those of evaluations, which have none.
        whole = f"{name}.{test_set}-{start_from}"
        settings = {
            part: value for part, value in to_dict(its).items() if part not in ("catalog", "class_names")
        }
        steps.append(
            Step(
                name=whole,
                run=run_robustness,
                config=replace(job, evaluation=name, start_from=start_from, test_set=test_set),
                identity=settings | {"samples": inputs[robustness_input(name, test_set)]},
                output=f"evaluations/{whole}",
                needs=(fine_tuning,),
                demand=demand_of(job.config, protocol, job.use_gpu),
            )
        )
    return steps


def run_robustness(job: Job, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """The weights of a fine-tuning on another test set."""
    assert job.evaluation is not None
    assert job.test_set is not None
    assert job.start_from is not None
    test = RobustnessTest(
        config=job.config,
        name=job.evaluation,
        test_set=job.test_set,
        weights=exported_weights(inputs[f"{job.evaluation}-{job.start_from}"]),
        output=output,
        placement=placement_of(job, job.evaluation),
    )
    return score_robustness(test, start_from=job.start_from)
