"""`mae-dist run` and the job scripts: read the recipe, check everything, run the steps, show the result."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from mae_dist.cli.config import add_recipe_arguments, add_set_argument
from mae_dist.config.lint import lint
from mae_dist.config.load import load
from mae_dist.config.problems import ConfigError, Problem
from mae_dist.config.schema import RunConfig

if TYPE_CHECKING:
    from mae_dist.data.catalog import Catalog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RECIPE, and what a job script takes too."""
    add_recipe_arguments(parser)
    _add_options(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--storage", help="folder or s3:// prefix for run directories (--set storage=...)")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, print the steps, start nothing"
    )


def main(recipe: str, arguments: Sequence[str] | None = None, *, needs: Sequence[str] = ()) -> int:
    """A job script's whole body: run this recipe with the command line's changes; returns the exit status.

    `needs` are fields that have to be given although a recipe can do without them.
    """
    parser = argparse.ArgumentParser(description=f"Run the recipe {recipe}.")
    parser.add_argument("--recipe", default=recipe, help="another recipe by name, or a YAML file")
    add_set_argument(parser)
    _add_options(parser)
    return run(parser.parse_args(arguments), needs=needs)


def run(arguments: argparse.Namespace, *, needs: Sequence[str] = ()) -> int:
    """0 if every step is done, 1 if one failed or was cancelled, 2 if the run cannot work as asked.

    Nothing was started then; 2 also if its storage stops answering, and the same command goes on from there.
    3 if another driver does this very run, or has taken it over from this one: nothing is wrong, and nothing
    is left to do here.
    """
    settings = arguments.settings + ([f"storage={arguments.storage}"] if arguments.storage else [])
    try:
        config = load(arguments.recipe, settings)
        missing = [name for name in needs if getattr(config, name) is None]
        if missing:
            told = [Problem(name, f"required here; give --set {name}=URI") for name in missing]
            raise ConfigError(arguments.recipe, told)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return run_config(anchored(config), dry_run=arguments.dry_run)


def anchored(config: RunConfig) -> RunConfig:
    """Every path made absolute: the workers of a run stand in folders of their own."""
    from mae_dist import storage

    data = replace(
        config.data,
        catalog=config.data.catalog and storage.absolute(config.data.catalog),
        mix={
            name: replace(source, catalog=storage.absolute(source.catalog))
            for name, source in config.data.mix.items()
        },
        test_catalog=config.data.test_catalog and storage.absolute(config.data.test_catalog),
    )
    evaluations = {
        name: replace(
            evaluation,
            robustness={
                test_set: replace(
                    its,
                    catalog=its.catalog and storage.absolute(its.catalog),
                    class_names=its.class_names and storage.absolute(its.class_names),
                )
                for test_set, its in evaluation.robustness.items()
            },
        )
        for name, evaluation in config.evaluations.items()
    }
    return replace(
        config,
        storage=storage.absolute(config.storage),
        weights=config.weights and storage.absolute(config.weights),
        target=replace(
            config.target, tokenizer=config.target.tokenizer and storage.absolute(config.target.tokenizer)
        ),
        start=replace(config.start, weights=config.start.weights and storage.absolute(config.start.weights)),
        data=data,
        evaluations=evaluations,
    )


def run_config(config: RunConfig, *, dry_run: bool = False) -> int:
    """Run a config that has been read; exit status as `run`."""
    console = Console()
    console.print(f"[bold]{config.name}[/bold]: checking the inputs ...")
    # Imported here: pyarrow and s3fs take a second, and a mistake in the recipe is told without them.
    from mae_dist.orchestrate.preflight import PreflightError, check_capacity, check_inputs
    from mae_dist.orchestrate.store import DriverLock, RunLockedError, RunStore
    from mae_dist.storage import StorageError
    from mae_dist.storage.fence import FencedOffError

    try:
        checked = check_inputs(config)
    except (PreflightError, StorageError) as error:
        print(error, file=sys.stderr)
        return 2
    _remark(config, checked.catalogs)
    # Torch and ray take seconds more; missing samples are told without them.
    from mae_dist.cli.display import StepDisplay
    from mae_dist.orchestrate import cluster, experiment
    from mae_dist.orchestrate.estimate import describe_work, work_of
    from mae_dist.orchestrate.requests import take_requests
    from mae_dist.orchestrate.runner import run_steps
    from mae_dist.orchestrate.state import WITHOUT_RESULT

    inputs = checked.digests
    try:
        is_joining = cluster.is_cluster_running()
        if is_joining:
            console.print("joining the cluster ...")
            cluster.connect()
        carried = cluster.capacity() if is_joining else cluster.local_capacity()
        use_gpu = check_capacity(config, carried, is_alone=not is_joining)
        steps = experiment.build_steps(config, inputs, use_gpu=use_gpu)
        uri = experiment.run_uri(config, inputs)
        if dry_run:
            work = work_of(config, steps, checked.catalogs)
            lines = [f"run directory  {uri}", *experiment.describe_steps(steps, work).splitlines()]
            lines += [*experiment.describe_kept(config), describe_work(work)]
            console.print("\n".join(lines), markup=False, soft_wrap=True)
            return 0
        with DriverLock(uri) as lock:
            take_requests(uri)  # whoever asked an earlier driver did not mean this one
            steps = experiment.build_steps(config, inputs, use_gpu=use_gpu, fence=lock.fence)
            console.print(f"run directory  {uri}", soft_wrap=True)
            if not is_joining:
                console.print("starting Ray ...")
                cluster.connect()
            experiment.prepare(uri, config, cluster=carried, use_gpu=use_gpu)
            with StepDisplay(console) as display:
                statuses = run_steps(
                    steps,
                    RunStore(uri, fence=lock.fence),
                    show=display.show,
                    most=config.jobs.side_by_side,
                    find=experiment.find_kept(
                        config, inputs, steps, uri=uri, use_gpu=use_gpu, fence=lock.fence
                    ),
                )
    except (RunLockedError, FencedOffError) as error:
        print(error, file=sys.stderr)
        return 3
    except (PreflightError, cluster.ClusterError, StorageError) as error:
        print(error, file=sys.stderr)
        return 2
    _show_report(console, uri)
    bad = [status for status in statuses if status.state in WITHOUT_RESULT]
    for status in bad:
        print(f"{status.step.name} {status.state}: {status.reason}", file=sys.stderr)
    return 1 if bad else 0


def _remark(config: RunConfig, catalogs: Mapping[str, Catalog]) -> None:
    """Say what may not be meant; nothing is stopped for it."""
    origins = {field: its.origin.dataset for field, its in catalogs.items() if its.origin is not None}
    numbers = [catalogs[field].num_samples for field in config.data.sources if field in catalogs]
    is_counted = len(numbers) == len(config.data.sources)
    for remark in lint(config, origins=origins, num_samples=sum(numbers) if is_counted else None):
        print(f"remark: {remark}", file=sys.stderr)


def _show_report(console: Console, uri: str) -> None:
    from mae_dist import storage
    from mae_dist.report.terminal import results_table

    twin = storage.join(uri, "report", "report.json")
    if storage.exists(twin):
        console.print(results_table(storage.read_json(twin)))
        _say(console, f"report         {storage.join(uri, 'report', 'index.html')}")
        _say(console, f"as data        {twin}")


def _say(console: Console, text: str) -> None:
    """As it is: a path may hold brackets, and must not be broken where it is copied from."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
