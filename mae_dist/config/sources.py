"""Mistakes about where samples come from: one catalog or a mix, and which of it has labels.

See `contradictions.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from mae_dist.config.schema import DataConfig, EvaluationConfig, RunConfig


def one_catalog_or_a_mix(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Training samples come from `data.catalog` or from `data.mix`."""
    data = config.data
    if data.catalog is None and not data.mix:
        yield "data.catalog", "required; give --set data.catalog=URI, or several catalogs in data.mix"
    if data.catalog is not None and data.mix:
        yield (
            "data.catalog",
            f"cannot stand beside data.mix ({_names(data)}); data.catalog=null or data.mix={{}} would do",
        )


def labelled_is_in_the_mix(config: RunConfig) -> Iterator[tuple[str, str]]:
    """`data.labelled` names a source."""
    data = config.data
    if data.labelled is not None and data.labelled not in data.mix:
        rule = f"must be one of {_names(data)}, or null" if data.mix else "needs data.mix, or null"
        yield "data.labelled", f"{rule}; got {data.labelled!r}"


def few_labels_are_of_one_catalog(
    config: RunConfig, evaluation: EvaluationConfig
) -> Iterator[tuple[str, str]]:
    """The first samples of each class are those of one catalog."""
    data = config.data
    if evaluation.labels_per_class is not None and data.mix and data.labelled is None:
        yield (
            "labels_per_class",
            f"takes the first samples of one catalog, got {evaluation.labels_per_class} and a mix of "
            f"{_names(data)}; null, or say which with data.labelled",
        )


def _names(data: DataConfig) -> str:
    return ", ".join(sorted(data.mix))
