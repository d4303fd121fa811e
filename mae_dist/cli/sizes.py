"""`mae-dist sizes`: what each named model costs."""

from __future__ import annotations

import argparse
import dataclasses
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the table of sizes."""
    from mae_dist.model.sizes import table

    rows = table()
    if arguments.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    shown.add_column("name", style="bold cyan", no_wrap=True)
    for heading in ("input", "tokens", "kept", "parameters", "pretrain", "finetune"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(
            row.name,
            f"{row.input_frames}x{row.input_height}x{row.input_width}",
            str(row.num_tokens),
            str(row.num_kept),
            f"{row.parameters / 1e6:.2f} M",
            f"{row.pretrain_multiply_adds / 1e9:.2f} G",
            f"{row.finetune_multiply_adds / 1e9:.2f} G",
        )
    console = Console()
    console.print(shown)
    console.print("pretrain, finetune: multiply-adds of one forward pass of one sample", style="dim")
    return 0
