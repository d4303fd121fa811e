"""`mae-dist plan RECIPE`: what a training needs of a cluster, told without one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from mae_dist.cli.config import add_recipe_arguments
from mae_dist.config.load import load
from mae_dist.config.problems import ConfigError
from mae_dist.config.schema import RunConfig

if TYPE_CHECKING:
    from rich.table import Table

    from mae_dist.orchestrate.sizing.plan import Choice, Plan

GIGA = 1e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RECIPE, the GPUs, and what stands in for the assumptions."""
    add_recipe_arguments(parser)
    parser.add_argument(
        "--gpus", type=_whole, help="GPUs that train together (default: the recipe's workers)"
    )
    parser.add_argument(
        "--gpu",
        default="h100",
        metavar="NAME",
        help="h100, h100-pcie, h200, a100-80gb, l40s, ... (default: h100)",
    )
    parser.add_argument(
        "--evaluation", metavar="NAME", help="plan this evaluation's training, not the pretraining"
    )
    parser.add_argument("--samples", type=_whole, help="size of the training set, for time and cost")
    parser.add_argument("--mfu", type=_share, help="share of the GPUs' peak that the training uses, as 0.2")
    parser.add_argument("--decode-ms", type=_positive, help="CPU time from a stored sample to one crop")
    parser.add_argument("--sample-mb", type=_positive, help="size of a stored sample in 10^6 bytes")
    parser.add_argument(
        "--node-cpus", type=_whole, default=32, help="of a CPU node that decodes (default: 32)"
    )
    parser.add_argument("--price-gpu-hour", type=_price, help="of one GPU with its share of its node")
    parser.add_argument("--price-cpu-hour", type=_price, help="of one CPU of a CPU node")
    parser.add_argument("--json", action="store_true", help="print everything as one object")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; 2 if it cannot work."""
    config = _load(arguments.recipe, arguments.settings)
    # Imported here: torch takes seconds, and a mistake in the recipe is told without it.
    from mae_dist.orchestrate.sizing.plan import MFU, Request, make_plan

    try:
        request = Request(
            gpu=arguments.gpu,
            gpus=arguments.gpus or _workers(config, arguments.evaluation),
            evaluation=arguments.evaluation,
            mfu=arguments.mfu or MFU,
            samples=arguments.samples or _num_samples(config),
            decode_seconds=None if arguments.decode_ms is None else arguments.decode_ms / 1000,
            sample_bytes=None if arguments.sample_mb is None else arguments.sample_mb * 1e6,
            node_cpus=arguments.node_cpus,
            price_gpu_hour=arguments.price_gpu_hour,
            price_cpu_hour=arguments.price_cpu_hour,
        )
        plan = make_plan(config, request)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(dataclasses.asdict(plan), indent=2))
    else:
        _show(plan)
    for problem in plan.problems:
        print(f"cannot work: {problem}", file=sys.stderr)
    return 2 if plan.problems else 0


def _load(recipe: str, settings: list[str]) -> RunConfig:
    """The recipe; samples need not be named, as nothing is read."""
    try:
        return load(recipe, settings)
    except ConfigError as error:
        if {problem.path for problem in error.problems} != {"data.catalog"}:
            raise
        return load(recipe, [*settings, "data.catalog=unnamed"])


def _workers(config: RunConfig, evaluation: str | None) -> int:
    if evaluation is not None and evaluation in config.evaluations:
        return config.workers_for(config.evaluations[evaluation]).most
    return config.resources.workers.most


def _num_samples(config: RunConfig) -> int | None:
    """Of sets that the run draws itself, whose names tell it."""
    from mae_dist.data.sources import is_drawn, num_drawn

    sources = config.data.sources.values()
    return sum(map(num_drawn, sources)) if all(map(is_drawn, sources)) else None


def _show(plan: Plan) -> None:
    from rich.console import Console

    console = Console()
    console.print(
        f"{plan.name}, {plan.training}: {plan.gpus} x {plan.gpu} of {plan.memory_gb} GB", style="bold"
    )
    for line in _facts(plan):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if plan.choices:
        console.print(_memory_table(plan))
        console.print(
            "GB on each GPU at the peak of a step: without / with activation checkpointing; * does not fit",
            style="dim",
            soft_wrap=True,
        )
    if plan.recommended is not None and not plan.problems:
        for line in _recommendation(plan, plan.recommended):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    for note in plan.notes:
        console.print(f"  {note}", style="dim", highlight=False, markup=False, soft_wrap=True)


def _facts(plan: Plan) -> list[str]:
    from mae_dist.orchestrate.estimate import scaled

    its = plan.parameters
    frozen = f", {its.frozen / 1e6:.1f} M frozen" if its.frozen else ""
    parts = f" (encoder {its.encoder / 1e6:.1f} M, decoder {its.decoder / 1e6:.1f} M)" if its.decoder else ""
    return [
        f"parameters     {its.total / 1e6:.1f} M trained{parts}{frozen}",
        f"operations     {scaled(plan.operations)}FLOP for a sample in a training step",
        f"global batch   {plan.global_batch}, products in {plan.precision}",
    ]


def _memory_table(plan: Plan) -> Table:
    from rich.table import Table

    stages = sorted({choice.stage for choice in plan.choices})
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    shown.add_column("micro-batch", justify="right")
    shown.add_column("passes", justify="right")
    for stage in stages:
        shown.add_column(f"ZeRO {stage}" if stage else "no ZeRO", justify="right", no_wrap=True)
    for micro_batch in sorted({choice.micro_batch for choice in plan.choices}):
        row = [choice for choice in plan.choices if choice.micro_batch == micro_batch]
        cells = [" / ".join(map(_gigabytes, (c for c in row if c.stage == stage))) for stage in stages]
        shown.add_row(str(micro_batch), str(row[0].accumulation), *cells)
    return shown


def _gigabytes(choice: Choice) -> str:
    return f"{choice.peak_bytes / GIGA:.1f}{'' if choice.fits else '*'}"


def _recommendation(plan: Plan, choice: Choice) -> list[str]:
    from mae_dist.report import wording

    memory, course = choice.memory, plan.course
    parts = ("weights", "optimizer", "gradients", "buffers", "activations", "pixels")
    lines = [
        "recommended    " + " ".join(f"--set {setting}" for setting in plan.settings),
        f"memory         {choice.peak_bytes / GIGA:.1f} of {plan.usable_bytes / GIGA:.0f} GB: "
        + ", ".join(f"{part} {getattr(memory, part) / GIGA:.1f}" for part in parts),
    ]
    if course is None:
        return lines
    feed = course.feeding
    lines += [
        f"speed          {wording.rate(course.samples_per_second)} samples/s at "
        f"{wording.percent(course.mfu)} MFU, {wording.rate(course.samples_per_second / plan.gpus)} per GPU",
        f"decoding       {feed.cpus:,} CPUs ({1000 * feed.decode_seconds:.2f} ms for a sample, "
        f"{1000 * feed.transport_seconds:.2f} ms on its way): {wording.plural(feed.nodes, 'CPU node')}",
        f"bandwidth      {feed.storage_bytes_per_second / GIGA:.2f} GB/s from storage, "
        f"{feed.stream_bytes_per_second / GIGA:.2f} GB/s of pixels to the GPUs",
    ]
    bill = course.bill
    if bill is not None:
        steps, time = wording.plural(bill.steps, "step"), wording.duration(bill.seconds)
        hours = f"{bill.gpu_hours:,.0f} GPU hours, {bill.cpu_hours:,.0f} CPU hours"
        lines.append(f"time           {steps} in {time}: {hours}")
        if bill.cost is not None:
            lines.append(f"cost           {bill.cost:,.0f} at the prices given")
    return lines


def _whole(text: str) -> int:
    return int(_checked(text, float(text).is_integer() and float(text) > 0, "a whole number above 0"))


def _positive(text: str) -> float:
    return float(_checked(text, float(text) > 0, "a number above 0"))


def _price(text: str) -> float:
    return float(_checked(text, float(text) >= 0, "a number, 0 or above"))


def _share(text: str) -> float:
    return float(_checked(text, 0 < float(text) <= 1, "a share, above 0 and at most 1"))


def _checked(text: str, is_right: bool, rule: str) -> str:
    if not is_right:
        raise argparse.ArgumentTypeError(f"must be {rule}, got {text}")
    return text
