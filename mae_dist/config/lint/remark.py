"""What the linter says, and what it knows of a run beside its config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mae_dist.config.data_sets import DataSet, known_data_sets, labelled_field
from mae_dist.config.schema import RunConfig

MAE = "arXiv 2111.06377"
VIDEOMAE = "arXiv 2203.12602"


@dataclass(frozen=True, slots=True)
class Remark:
    """One setting that is allowed, changes the result, and is not what the papers did."""

    path: str
    """Dotted field."""
    given: str
    right: str
    """A value, as a recipe would write it, or in words."""
    why: str
    source: str
    """Where it is known from."""

    def __str__(self) -> str:
        return f"{self.path}: got {self.given}; {self.right} would be right: {self.why} ({self.source})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A run with what is known of its samples."""

    config: RunConfig
    data_sets: Mapping[str, DataSet] = field(default_factory=dict)
    """Those that are recognised, by field of `data`."""
    num_samples: int | None = None
    """Training samples of one epoch; None where they have not been counted yet."""

    @classmethod
    def of(
        cls, config: RunConfig, *, origins: Mapping[str, str] | None = None, num_samples: int | None = None
    ) -> Subject:
        """The run as its config tells it, and its catalogs where they exist; see `known_data_sets`."""
        return cls(config=config, data_sets=known_data_sets(config, origins), num_samples=num_samples)

    @property
    def labelled(self) -> DataSet | None:
        """What evaluations train and test on."""
        return self.data_sets.get(labelled_field(self.config))

    @property
    def is_of_a_paper(self) -> bool:
        """Whether the model has a size of the papers: settings of the small ones are our own."""
        return not self.config.model.size.endswith(("_nano", "_micro"))

    @property
    def is_video(self) -> bool:
        """Whether a sample has more than one frame."""
        return self.config.input.frames > 1


def shown(value: object) -> str:
    """A value as a recipe would write it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return f"[{', '.join(map(shown, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
