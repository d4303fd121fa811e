"""`mae-dist recipes [WORD ...]`: what is packaged, one line each; of a single one, its header."""

from __future__ import annotations

import argparse
import sys

from mae_dist.config.tree import recipe_names

NOTE = """\
FLOP: of training, two per multiply-add (P is 10^15, E 10^18, Z 10^21), or of extracting features
expected: published, in percent; what it takes and where it is from: mae-dist recipes NAME"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """WORD, any number of them."""
    parser.add_argument(
        "words",
        metavar="WORD",
        nargs="*",
        help="list only recipes with all these words in name or header, as in `recipes k400 ViT-L`",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a table of at most 110 columns; 1 if no recipe has the words."""
    # Imported here: what a training costs is known where torch is.
    from mae_dist.orchestrate.estimate import scaled
    from mae_dist.orchestrate.packaged import describe, header, matching

    names = recipe_names()
    chosen = matching(names, arguments.words)
    if not chosen:
        print(f"no recipe has {' and '.join(arguments.words)}; `mae-dist recipes` lists all", file=sys.stderr)
        return 1
    width = max(len("recipe"), *map(len, chosen))
    line = f"{{:<{width}}}  {{:<14}}  {{:<22}}  {{:>6}}  {{}}"
    print(line.format("recipe", "model", "data", "FLOP", "expected"))
    for name in chosen:
        its = describe(name, names)
        cost = "-" if its.operations is None else scaled(its.operations)
        print(line.format(name, its.model or "any", its.data or "any", cost, its.expected or "-"))
    print(NOTE if len(chosen) > 1 else f"\n{header(chosen[0])}")
    return 0
