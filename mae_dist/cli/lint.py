"""`mae-dist lint RECIPE`: what is allowed, changes results, and is not what the papers did."""

from __future__ import annotations

import argparse

from mae_dist.cli.config import add_recipe_arguments
from mae_dist.config.data_sets import known_data_sets
from mae_dist.config.lint import lint
from mae_dist.config.load import load_without_samples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RECIPE and --set."""
    add_recipe_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a line per remark; 0 if there is none, 1 if there are some. Samples are not looked at."""
    config = load_without_samples(arguments.recipe, arguments.settings)
    data_sets = dict.fromkeys(its.name for its in known_data_sets(config).values())
    taken = f"taken for {' and '.join(data_sets)}" if data_sets else "no data set of the papers recognised"
    remarks = lint(config)
    print(f"{arguments.recipe}: {len(remarks)} remark(s); {taken}")
    for remark in remarks:
        print(f"  {remark}")
    return 1 if remarks else 0
