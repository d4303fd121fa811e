"""`mae-dist study NAME`: run the table of a paper, and write it with the published numbers and ours."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from mae_dist.cli.config import add_set_argument
from mae_dist.config.load import load_study
from mae_dist.config.problems import ConfigError, Problem, suggestion
from mae_dist.config.studies import DATA_SETS, SCALES, StudyConfig
from mae_dist.config.tree import study_names

if TYPE_CHECKING:
    from rich.console import Console

    from mae_dist.orchestrate.study import StudyPlan, StudyRequest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """NAME and what of it is run, or --list."""
    parser.add_argument("name", nargs="?", help="name of a packaged study (see --list) or a YAML file")
    parser.add_argument("--list", action="store_true", help="list the packaged studies")
    parser.add_argument(
        "--scale",
        choices=SCALES,
        default=SCALES[0],
        help="mini (default): in small, on samples that are drawn; full: the paper's recipes",
    )
    parser.add_argument(
        "--value", dest="values", action="append", default=[], help="run this row alone; may be repeated"
    )
    parser.add_argument(
        "--column", dest="columns", action="append", default=[], help="measure this column alone; the same"
    )
    parser.add_argument(
        "--data",
        metavar="NAME=TRAIN,TEST",
        action="append",
        default=[],
        help=f"where a data set lies at full scale: {', '.join(DATA_SETS)}; may be repeated",
    )
    add_set_argument(parser)
    parser.add_argument("--storage", default="runs", help="folder or s3:// prefix for the runs and the table")
    parser.add_argument("--dry-run", action="store_true", help="print the runs and their cost, start nothing")


def run(arguments: argparse.Namespace) -> int:
    """0 if every run is done, 1 if one failed, 2 if one cannot work as asked, 3 if others do the rest."""
    if arguments.list or arguments.name is None:
        _print_list()
        return 0
    study = load_study(arguments.name)
    data = _read_data(arguments.name, arguments.data)
    # Imported here: torch takes seconds, and mistakes in what is asked are told without it.
    from mae_dist import storage
    from mae_dist.orchestrate.preflight import PreflightError
    from mae_dist.orchestrate.study import StudyRequest, describe_plan, plan_study

    request = StudyRequest(
        name=arguments.name,
        scale=arguments.scale,
        storage=storage.absolute(arguments.storage),
        values=arguments.values,
        columns=arguments.columns,
        data={
            name: (storage.absolute(train), storage.absolute(test)) for name, (train, test) in data.items()
        },
        settings=arguments.settings,
    )
    try:
        plan = plan_study(study, request)
        if arguments.dry_run:
            print(*describe_plan(plan), sep="\n")
            return 0
        return _run_all(study, request, plan)
    except PreflightError as error:
        print(error, file=sys.stderr)
        return 2


def _run_all(study: StudyConfig, request: StudyRequest, plan: StudyPlan) -> int:
    """Every run of a plan and of those that follow from it; the table is written anew after each."""
    from mae_dist.cli.run import anchored, run_config
    from mae_dist.cli.status import terminal
    from mae_dist.orchestrate.study import plan_study, run_labels
    from mae_dist.report.study.publish import study_uri, write_study

    console = terminal()
    where = study_uri(request.storage, request.name, request.scale)
    write_study(where, _table(study, request, plan))
    statuses: dict[str, int] = {}
    while ahead := [its for its in plan.runs if its.uri not in statuses]:
        for its in ahead:
            number = f"{len(statuses) + 1} of {len(statuses.keys() | {run.uri for run in plan.runs})}"
            what = ", ".join(run_labels(its)) or "weights for others"
            console.print(f"\nrun {number}: {what}", markup=False, highlight=False, style="bold")
            statuses[its.uri] = run_config(anchored(its.config))
            write_study(where, _table(study, request, plan))
            if statuses[its.uri] == 2:
                return 2
        if not plan.is_final:
            plan = plan_study(study, request)
    table = _table(study, request, plan)
    write_study(where, table)
    _show(console, table, where)
    return next((status for status in (1, 3) if status in statuses.values()), 0)


def _table(study: StudyConfig, request: StudyRequest, plan: StudyPlan) -> dict[str, Any]:
    from mae_dist.report.study.table import study_table

    return study_table(
        request.name,
        study,
        scale=request.scale,
        places=plan.places,
        reasons=plan.reasons,
        samples=plan.samples,
        created=datetime.now(UTC),
    )


def _show(console: Console, table: dict[str, Any], where: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from mae_dist import storage
    from mae_dist.report.study import words

    headings, rows = words.main_cells(table)
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for heading in headings:
        shown.add_column(Text(heading.replace(": ", ":\n")), vertical="bottom", overflow="fold")
    for row in rows:
        shown.add_row(*map(Text, row))
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    say(f"\n{table['title']} ({table['scale']}), {table['source']}", style="bold")
    console.print(shown)
    say(words.SCALES[table["scale"]])
    say(f"table  {storage.join(where, 'index.html')}")


def _read_data(study: str, given: Sequence[str]) -> dict[str, tuple[str, str]]:
    """--data by name; raises ConfigError with every mistake."""
    problems, data = [], {}
    for text in given:
        name, equals, places = text.partition("=")
        train, comma, test = places.partition(",")
        if not (equals and comma and train and test):
            problems.append(Problem("", "a data set is NAME=TRAIN,TEST", f"--data {text}"))
        elif name not in DATA_SETS:
            hint = suggestion(name, DATA_SETS) or f"; there are {', '.join(DATA_SETS)}"
            problems.append(Problem("", f"no data set {name!r}{hint}", f"--data {text}"))
        else:
            data[name] = (train, test)
    if problems:
        raise ConfigError(study, problems)
    return data


def _print_list() -> None:
    names = study_names()
    width = max(map(len, names))
    for name in names:
        study = load_study(name)
        rows = f"{len(study.values)} value{'s' if len(study.values) > 1 else ''}"
        print(f"{name:<{width}}  {study.title}: {rows}; {study.source}")
