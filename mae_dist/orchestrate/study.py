"""A study as runs: which run gives the number of each cell of the table, and where it lies.

values x columns -> a config each -> cells of one pretraining share a run directory -> runs in their order

Runs are done one after the other: each pretraining is given as many workers as its recipe asks for, and its
evaluations already stand side by side. Where a cluster has room for more, the same study is submitted again:
a run that another driver does is passed over, so that two drivers share the work between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from mae_dist import storage
from mae_dist.config.data_sets import DATA_SETS
from mae_dist.config.load import digest, load
from mae_dist.config.problems import ConfigError, Problem, suggestion
from mae_dist.config.schema import RunConfig
from mae_dist.config.studies import (
    ColumnConfig,
    Scale,
    StudyConfig,
    ValueConfig,
    slug,
)
from mae_dist.model.weights.header import exported_weights
from mae_dist.orchestrate.estimate import Work, describe_work, scaled, work_of
from mae_dist.orchestrate.experiment import build_steps, run_uri
from mae_dist.orchestrate.preflight import Inputs, check_inputs
from mae_dist.report.study.table import Cell, Place

_NOT_AT_MINI = "not measured at mini scale"


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRequest:
    """What of a study is asked for."""

    name: str
    scale: Scale
    storage: str
    values: Sequence[str] = ()
    """Labels of those that are run; none: all."""
    columns: Sequence[str] = ()
    """Keys of those that are measured; none: all."""
    data: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Training and test samples at full scale, by the name of the data set."""
    settings: Sequence[str] = ()
    """For every run, as --set takes them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRun:
    """One run directory, and the cells whose numbers lie there."""

    uri: str
    config: RunConfig
    inputs: Inputs
    cells: tuple[Cell, ...]
    """None of a pretraining that is there for the weights alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyPlan:
    """The runs of a study in their order, and for every cell where its number lies or why it has none."""

    runs: tuple[StudyRun, ...]
    places: Mapping[Cell, Place]
    reasons: Mapping[Cell, str]
    samples: Mapping[str, str]
    """What the runs of a column train on."""
    is_final: bool
    """Whether no value that is asked for waits for the weights of a run."""


def plan_study(study: StudyConfig, request: StudyRequest) -> StudyPlan:
    """Every run that can be named now.

    A value whose weights come from another run waits until that one has left them, and is in a later plan.
    Raises ConfigError with the mistakes of all runs, PreflightError and StorageError as `check_inputs` does.
    """
    misnamed = [*_misnamed("value", request.values, study.values)]
    misnamed += _misnamed("column", request.columns, study.columns)
    if misnamed:
        raise ConfigError(request.name, misnamed)
    reasons: dict[Cell, str] = {}
    wanted: dict[Cell, _Wanted] = {}
    problems: list[Problem] = []
    for cell in product(study.values, study.columns):
        value, column = study.values[cell[0]], study.columns[cell[1]]
        reason, is_asked = _why_not(value, column, request), _is_asked(cell, request)
        if reason is not None:
            reasons[cell] = reason
            continue
        try:
            source = _source(value, column, request)
            config = _cell_config(cell[0], value, column, request, has_source=source is not None)
            wanted[cell] = _Wanted(config, source, is_asked, _field(value))
        except ConfigError as error:
            # Where the samples of other columns lie need not be said.
            problems += error.problems if is_asked else ()
            reasons[cell] = "not asked for"
    if problems:
        raise ConfigError(request.name, list(dict.fromkeys(problems)))
    return _plan(wanted, reasons)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The run of a cell with its evaluation alone."""

    config: RunConfig
    source: RunConfig | None
    """The run that has to come first; None: this one needs no other."""
    is_asked: bool
    """Whether it is run. If not, its number is still looked for: an earlier job may have left one."""
    field: str = "weights"
    """What of this run the other one is."""

    def given(self, made_by: str) -> RunConfig:
        """The run once the directory of the other one is known."""
        if self.field == "target.tokenizer":
            return replace(self.config, target=replace(self.config.target, tokenizer=made_by))
        return replace(self.config, weights=made_by)


def _plan(wanted: Mapping[Cell, _Wanted], reasons: dict[Cell, str]) -> StudyPlan:
    runs: dict[str, StudyRun] = {}
    places: dict[Cell, Place] = {}
    known: dict[str, Inputs] = {}
    is_final = True

    def planned(config: RunConfig, *cells: Cell, is_asked: bool) -> str:
        """The directory of a run, which joins the others if it is asked for."""
        # Listing a data set takes minutes where it is large, and most runs of a study have the same.
        looked_at = digest([config.data, config.weights, config.evaluations])
        if looked_at not in known:
            known[looked_at] = check_inputs(config)
        inputs = known[looked_at]
        run = StudyRun(uri=run_uri(config, inputs.digests), config=config, inputs=inputs, cells=cells)
        if is_asked:
            runs[run.uri] = _joined(runs[run.uri], run) if run.uri in runs else run
        return run.uri

    for cell, its in wanted.items():
        config = its.config
        if its.source is not None:
            made_by = planned(its.source, is_asked=its.is_asked)
            if not storage.exists(exported_weights(made_by)):
                is_final &= not its.is_asked
                reasons[cell] = f"waits for the weights of {made_by}"
                continue
            config = its.given(made_by)
        uri = planned(config, cell, is_asked=its.is_asked)
        [(name, evaluation)] = config.evaluations.items()
        places[cell] = Place(run_directory=uri, evaluation=name, start_from=evaluation.start_from[0])
    samples = {key: ", ".join(its.config.data.sources.values()) for (_, key), its in wanted.items()}
    return StudyPlan(
        runs=tuple(runs.values()), places=places, reasons=reasons, samples=samples, is_final=is_final
    )


def _joined(first: StudyRun, other: StudyRun) -> StudyRun:
    """One run directory with the evaluations and the cells of both."""
    return StudyRun(
        uri=first.uri,
        config=replace(first.config, evaluations=first.config.evaluations | other.config.evaluations),
        inputs=Inputs(
            first.inputs.digests | other.inputs.digests, first.inputs.catalogs | other.inputs.catalogs
        ),
        cells=first.cells + other.cells,
    )


def describe_plan(plan: StudyPlan) -> list[str]:
    """The runs with their values and what they have to do, then what has no run and why; one line each."""
    lines, whole = [], {}
    for run in plan.runs:
        steps = build_steps(run.config, run.inputs.digests, use_gpu=run.config.resources.device == "gpu")
        work = work_of(run.config, steps, run.inputs.catalogs)
        whole |= {f"{run.uri} {name}": its for name, its in work.items()}
        lines.append(f"{run.uri}  {', '.join(run_labels(run)) or 'weights for others'}; {_sum(work)}")
    lines += [f"{value}, {column}: {reason}" for (value, column), reason in plan.reasons.items()]
    return [*lines, f"{len(plan.runs)} runs, one after the other; {describe_work(whole)}"]


def run_labels(run: StudyRun) -> list[str]:
    """The values whose numbers a run gives, each once."""
    return list(dict.fromkeys(value for value, _ in run.cells))


def _sum(work: Mapping[str, Work]) -> str:
    passes = sum(its.passes for its in work.values())
    operations = sum(its.operations for its in work.values())
    return f"{passes:,} samples seen, {scaled(operations)}FLOP"


def _misnamed(what: str, given: Sequence[str], known: Mapping[str, object]) -> Iterator[Problem]:
    for name in given:
        if name not in known:
            hint = suggestion(name, known) or f"; there are {', '.join(known)}"
            yield Problem("", f"no {what} {name!r}{hint}", f"--{what} {name}")


def _why_not(value: ValueConfig, column: ColumnConfig, request: StudyRequest) -> str | None:
    """Why a cell has no run, whoever asks."""
    if value.unavailable is not None or column.unavailable is not None:
        return f"not available: {value.unavailable or column.unavailable}"
    is_small = not value.only_full and column.mini is not None
    if value.pretraining is not None and value.pretraining.mini is None:
        is_small = False
    return _NOT_AT_MINI if request.scale == "mini" and not is_small else None


def _is_asked(cell: Cell, request: StudyRequest) -> bool:
    asked = (request.values, request.columns)
    return all(not names or name in names for name, names in zip(cell, asked, strict=True))


def _field(value: ValueConfig) -> str:
    return "weights" if value.pretraining is None else value.pretraining.field


def _cell_config(
    label: str, value: ValueConfig, column: ColumnConfig, request: StudyRequest, *, has_source: bool
) -> RunConfig:
    """The run of one cell with its evaluation alone, which has the value's name if the value changes it.

    The directory of a run that comes first is not known yet, and `_Wanted.given` says it later.
    """
    is_mini = request.scale == "mini"
    changes = value.settings if not is_mini or value.mini_settings is None else value.mini_settings
    recipe = column.mini if is_mini else value.recipe or column.recipe
    evaluation = value.evaluation or column.evaluation
    assert recipe is not None
    assert evaluation is not None
    later = [f"{_field(value)}=later"] if has_source else []
    config = _loaded(recipe, column.data, [*changes, *later], request)
    if evaluation not in config.evaluations:
        there = f"{recipe} has no evaluation {evaluation!r}; there are {', '.join(config.evaluations)}"
        raise ConfigError(request.name, [Problem(f"values.{label}", there)])
    is_own = any(change.startswith(f"evaluations.{evaluation}.") for change in changes)
    name = f"{evaluation}-{slug(label)}" if is_own else evaluation
    # What a number stands beside is for the study to say: the evaluation it names is left out, and what was
    # published of the recipe is not of a changed one.
    its = replace(config.evaluations[evaluation], baseline=None)
    its = replace(its, published=None) if changes or value.pretraining else its
    return replace(config, evaluations={name: its})


def _source(value: ValueConfig, column: ColumnConfig, request: StudyRequest) -> RunConfig | None:
    """The run that has to come before that of a cell; None: its own does all."""
    if value.pretraining is None:
        return None
    if request.scale == "full":
        theirs, own = value.pretraining.recipe, column.recipe
    else:
        theirs, own = value.pretraining.mini, column.mini
    if theirs is None or theirs == own:
        return None
    return replace(_loaded(theirs, value.pretraining.data, (), request), evaluations={})


def _loaded(recipe: str, data: str | None, changes: Sequence[str], request: StudyRequest) -> RunConfig:
    settings = [f"storage={request.storage}", *changes]
    if request.scale == "full" and data is not None and data in request.data:
        train, test = request.data[data]
        settings += [f"data.catalog={train}", f"data.test_catalog={test}"]
    try:
        return load(recipe, [*settings, *request.settings])
    except ConfigError as error:
        raise ConfigError(recipe, [_told_of_data(problem, data) for problem in error.problems]) from None


def _told_of_data(problem: Problem, data: str | None) -> Problem:
    """A missing catalog in the words of a study, whose runs may have several data sets."""
    if problem.path != "data.catalog" or problem.source or data is None:
        return problem
    name = DATA_SETS[data].name
    return Problem(
        "", f"where {name} lies is not known; give --data {data}=TRAIN,TEST, or other columns with --column"
    )
