"""What changes a result without a word: settings that are allowed, and not those of the papers.

A contradiction is an error and stops a run (`contradictions.py`); a remark says what was given, what would be
right and where that is known from, and stops nothing. Rules of pretraining see the whole run, rules of
evaluations one of them, with paths below it. What the small sizes are trained with is our own, so that most
rules leave them alone.

Of the reference implementations' known traps some cannot be met here, and have no rule: test samples that are
padded or counted twice, epsilons of norms, biases of keys, a number of classes that nobody gave, generators
that draw alike in every loading process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from mae_dist.config.lint import method, optimisation, pixels
from mae_dist.config.lint.remark import Remark, Subject
from mae_dist.config.schema import EvaluationConfig, RunConfig

RULES: tuple[Callable[[Subject], Iterator[Remark]], ...] = (
    method.tested_samples,
    pixels.span,
    pixels.pretraining_window,
    pixels.colours,
    pixels.pretraining_crops,
    method.mask,
    method.target,
    optimisation.pretraining,
)
EVALUATION_RULES: tuple[Callable[[Subject, EvaluationConfig], Iterator[Remark]], ...] = (
    pixels.evaluation_frames,
    pixels.evaluation_crops,
    pixels.views,
    optimisation.evaluation,
    method.head,
    method.published,
)


def lint(
    config: RunConfig, *, origins: Mapping[str, str] | None = None, num_samples: int | None = None
) -> list[Remark]:
    """What may not be meant in a config without contradictions.

    `origins` are the public data sets that catalogs were built as, by their fields of `data`; without them
    the names of files and run are looked at. With `num_samples`, those of an epoch,
    lengths in epochs are compared with those in steps.
    """
    subject = Subject.of(config, origins=origins, num_samples=num_samples)
    found = [remark for rule in RULES for remark in rule(subject)]
    for name, evaluation in config.evaluations.items():
        for rule in EVALUATION_RULES:
            found += [
                replace(remark, path=f"evaluations.{name}.{remark.path}")
                for remark in rule(subject, evaluation)
            ]
    return found
