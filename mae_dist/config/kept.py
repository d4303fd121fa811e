"""Mistakes about evaluations of kept checkpoints: none is kept, or others than asked for.

See `contradictions.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from mae_dist.config.duration import Duration
from mae_dist.config.schema import EvaluationConfig, RunConfig

Finding = tuple[str, str]


def checkpoints_are_kept(config: RunConfig, evaluation: EvaluationConfig) -> Iterator[Finding]:
    """What is evaluated while the pretraining goes on must still be there when its turn comes."""
    asked = evaluation.checkpoints
    if asked.count("last") != 1:
        yield "checkpoints", 'must name "last", once: the final weights are always evaluated'
    kept = config.checkpoint.keep_every
    for length in asked:
        if not isinstance(length, Duration):
            continue
        if length.value <= 0:
            yield "checkpoints", f"must be longer than 0, got 'every {length}'"
        elif kept is None:
            yield (
                "checkpoints",
                f"'every {length}' needs checkpoints that are not deleted, and checkpoint.keep_every is "
                f"null; '{length}' would do",
            )
        elif not _is_multiple(length, kept):
            yield (
                "checkpoints",
                f"'every {length}' must be a multiple of checkpoint.keep_every='{kept}', as others are "
                "deleted",
            )
        if "pretrained" not in evaluation.start_from:
            yield (
                "checkpoints",
                f"'every {length}' is of a pretraining, and start_from does not name pretrained",
            )


def _is_multiple(length: Duration, unit: Duration) -> bool:
    ratio = length.value / unit.value if length.unit == unit.unit and unit.value > 0 else 0.0
    return ratio >= 1 and abs(ratio - round(ratio)) < 1e-9
