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
from mae_dist.config.load import digest, load
from mae_dist.config.problems import ConfigError, Problem, suggestion
from mae_dist.config.schema import RunConfig
from mae_dist.config.studies import (
    DATA_SETS,
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
    configs: dict[Cell, tuple[RunConfig, RunConfig | None]] = {}
    problems: list[Problem] = []
    for cell in product(study.values, study.columns):
        value, column = study.values[cell[0]], study.columns[cell[1]]
        reason = _why_not(value, column, request) or _not_asked_for(cell, request)
        if reason is not None:
            reasons[cell] = reason
            continue
        try:
            configs[cell] = _cell_config(cell[0], value, column, request), _source(value, column, request)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(request.name, list(dict.fromkeys(problems)))
    return _plan(configs, reasons)


def _plan(configs: Mapping[Cell, tuple[RunConfig, RunConfig | None]], reasons: dict[Cell, str]) -> StudyPlan:
    runs: dict[str, StudyRun] = {}
    places: dict[Cell, Place] = {}
    known: dict[str, Inputs] = {}
    for cell, (config, source) in configs.items():
        if source is not None:
            made_by = _add(runs, source, (), known)
            if not storage.exists(exported_weights(made_by)):
                reasons[cell] = f"waits for the weights of {made_by}"
                continue
            config = replace(config, weights=made_by)
        [(name, evaluation)] = config.evaluations.items()
        uri = _add(runs, config, (cell,), known)
        places[cell] = Place(run_directory=uri, evaluation=name, start_from=evaluation.start_from[0])
    samples = {key: ", ".join(config.data.sources.values()) for (_, key), (config, _) in configs.items()}
    return StudyPlan(runs=tuple(runs.values()), places=places, reasons=reasons, samples=samples)


def _add(
    runs: dict[str, StudyRun], config: RunConfig, cells: tuple[Cell, ...], known: dict[str, Inputs]
) -> str:
    """The directory of a run, which is added or given the evaluations that it has not yet."""
    # Listing a data set takes minutes where it is large, and most runs of a study have the same.
    asked = digest([config.data, config.weights, config.evaluations])
    if asked not in known:
        known[asked] = check_inputs(config)
    inputs = known[asked]
    uri = run_uri(config, inputs.digests)
    if uri in runs:
        there = runs[uri]
        config = replace(there.config, evaluations=there.config.evaluations | config.evaluations)
        inputs = Inputs(there.inputs.digests | inputs.digests, there.inputs.catalogs | inputs.catalogs)
        cells = there.cells + cells
    runs[uri] = StudyRun(uri=uri, config=config, inputs=inputs, cells=cells)
    return uri


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


def _not_asked_for(cell: Cell, request: StudyRequest) -> str | None:
    asked = (request.values, request.columns)
    is_asked = all(not names or name in names for name, names in zip(cell, asked, strict=True))
    return None if is_asked else "not asked for"


def _cell_config(label: str, value: ValueConfig, column: ColumnConfig, request: StudyRequest) -> RunConfig:
    """The run of one cell with its evaluation alone, which has the value's name if the value changes it."""
    is_mini = request.scale == "mini"
    changes = value.settings if not is_mini or value.mini_settings is None else value.mini_settings
    recipe, evaluation = column.mini if is_mini else column.recipe, value.evaluation or column.evaluation
    assert recipe is not None
    assert evaluation is not None
    config = _loaded(recipe, column.data, changes, request)
    if evaluation not in config.evaluations:
        there = f"{recipe} has no evaluation {evaluation!r}; there are {', '.join(config.evaluations)}"
        raise ConfigError(request.name, [Problem(f"values.{label}", there)])
    is_own = any(change.startswith(f"evaluations.{evaluation}.") for change in changes)
    name = f"{evaluation}-{slug(label)}" if is_own else evaluation
    return replace(config, evaluations={name: config.evaluations[evaluation]})


def _source(value: ValueConfig, column: ColumnConfig, request: StudyRequest) -> RunConfig | None:
    """The run that the weights of a cell come from; None: from its own."""
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
    known = next(name for key, name in DATA_SETS.items() if key == data)
    return Problem(
        "", f"where {known} lies is not known; give --data {data}=TRAIN,TEST, or other columns with --column"
    )
