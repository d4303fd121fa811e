"""The command `mae-dist`: finds the subcommand, and turns a user's mistake into one screen and status 2.

A subcommand is a module with `add_arguments(parser)` and `run(arguments) -> exit status`, named in COMMANDS.
Only the one that is called is imported, so that a mistake in a recipe is answered before torch or Ray would
have loaded.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from mae_dist.config.problems import ConfigError
from mae_dist.report.run_files import NotARunError
from mae_dist.storage import StorageError

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run a recipe: pretrain, evaluate, report; again to do what is missing", "mae_dist.cli.run"),
    "status": (
        "show where the steps of a run stand, and whether anybody works on them",
        "mae_dist.cli.status",
    ),
    "watch": ("show the steps of a run as they go, until its driver has ended", "mae_dist.cli.watch"),
    "logs": ("print what a step of a run has said", "mae_dist.cli.logs"),
    "cancel": ("end one step of a run, or all of it", "mae_dist.cli.cancel"),
    "report": ("write the report of a run again and print its results", "mae_dist.cli.report"),
    "compare": ("show the results of several runs, and how their configs differ", "mae_dist.cli.compare"),
    "leaderboard": (
        "show the results of all runs in one place beside the papers",
        "mae_dist.cli.leaderboard",
    ),
    "catalog": ("list the samples of a data set in one file, or look at every one", "mae_dist.cli.catalog"),
    "prepare": ("write a data set once more, small and quick to decode", "mae_dist.cli.prepare"),
    "study": (
        "run a table of the papers, and write it with the published numbers and ours",
        "mae_dist.cli.study",
    ),
    "recipes": ("list the packaged recipes", "mae_dist.cli.recipes"),
    "config": ("show a recipe with every value filled in, or every field there is", "mae_dist.cli.config"),
    "reconstruct": (
        "show what a pretrained model makes of images and clips of your own",
        "mae_dist.cli.reconstruct",
    ),
    "weights": (
        "look into weights of any dialect, convert, check and export them",
        "mae_dist.cli.weights",
    ),
    "sizes": ("list the named models with parameters and multiply-adds", "mae_dist.cli.sizes"),
    "lint": ("say what in a recipe is allowed and yet not as in the papers", "mae_dist.cli.lint"),
    "plan": (
        "work out memory, speed, decode CPUs, time and cost of a training on given GPUs",
        "mae_dist.cli.plan",
    ),
}
"""name: (what it does, module)."""

USER_ERRORS: tuple[type[Exception], ...] = (ConfigError, StorageError, NotARunError)
"""What a user can put right: shown without a traceback."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status, 2 for a mistake in what was asked."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(
        prog="mae-dist",
        description="Masked autoencoders on a Ray cluster: from a bucket to an evaluated encoder.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    called = None
    for name, (summary, module) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if arguments and arguments[0] == name:
            called = importlib.import_module(module)
            called.add_arguments(command)
    parsed = parser.parse_args(arguments)
    assert called is not None  # argparse has refused any other first word
    try:
        return called.run(parsed)
    except USER_ERRORS as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # `mae-dist ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
