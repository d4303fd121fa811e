"""`mae-dist recipes`: what is packaged, one line each."""

from __future__ import annotations

import argparse

from mae_dist.config.tree import RECIPES, recipe_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""
    del parser


def run(arguments: argparse.Namespace) -> int:
    """Print each recipe's name and the first line of its header."""
    del arguments
    names = recipe_names()
    width = max(map(len, names))
    for name in names:
        with (RECIPES / f"{name}.yaml").open(encoding="utf-8") as file:
            print(f"{name:<{width}}  {file.readline().lstrip('# ').rstrip()}")
    return 0
