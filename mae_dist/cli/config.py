"""`mae-dist config show RECIPE` and `mae-dist config fields`."""

from __future__ import annotations

import argparse
import sys

from mae_dist.config.load import load, to_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`show RECIPE [--set a.b=c ...]` and `fields`."""
    what = parser.add_subparsers(dest="what", required=True, metavar="show | fields")
    show = what.add_parser("show", help="print a recipe with every value filled in, as YAML")
    add_recipe_arguments(show)
    what.add_parser("fields", help="print every field with its type, default and meaning")


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """RECIPE and --set, the same for every command that reads a recipe."""
    parser.add_argument("recipe", help="name of a packaged recipe (see `mae-dist recipes`) or a YAML file")
    add_set_argument(parser)


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    """--set, which reaches every field."""
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="set any field, as in --set mask.ratio=0.9; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what was asked for."""
    if arguments.what == "fields":
        _print_fields()
    else:
        config = load(arguments.recipe, arguments.settings)
        sys.stdout.write(to_yaml(config))
        print(f"# train: peak learning rate {config.train.peak_lr:g} = base_lr * global_batch / 256")
        for name, evaluation in config.evaluations.items():
            if evaluation.train is not None:
                print(f"# evaluations.{name}: peak learning rate {evaluation.train.peak_lr:g}")
    return 0


def _print_fields() -> None:
    from mae_dist.config.fields import field_infos

    infos = field_infos()
    if not sys.stdout.isatty():  # one line each, for grep
        for info in infos:
            print(f"{info.path}\t{info.type}\t{info.default}\t{info.doc}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    sections = dict.fromkeys(info.path.rpartition(".")[0] for info in infos)
    for section in sections:
        below = [info for info in infos if info.path.rpartition(".")[0] == section]
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(style="bold cyan", no_wrap=True)
        table.add_column(style="green", ratio=2)
        table.add_column(style="magenta", ratio=1)
        table.add_column(ratio=4)
        for info in below:
            table.add_row(*(Text(cell) for cell in (info.path, info.type, info.default, info.doc)))
        console.print(Text(f"\n{section or 'run'}", style="bold"), Text(below[0].section_doc, style="dim"))
        console.print(table)
