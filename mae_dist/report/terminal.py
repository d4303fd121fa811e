"""The results of a report, and of several runs beside each other, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mae_dist.report import leaderboard, wording
from mae_dist.report.columns import fitted_table
from mae_dist.report.differences import value_words

Report = Mapping[str, Any]


def results_table(report: Report) -> Group:
    """What rich prints for a report dict: evaluations, reconstruction, pretraining, and what is missing.

    All text from outside goes through rich's Text, so that brackets in a name are no markup.
    """
    parts: list[Table | Text] = [_evaluations(report), _facts(report)]
    if report["unfinished"]:
        parts.append(Text("This report is partial:", style="bold yellow"))
        parts += [Text(f"  {entry['what']}: {entry['reason']}") for entry in report["unfinished"]]
    return Group(*parts)


def _evaluations(report: Report) -> Table:
    table = Table(title=Text(f"{report['name']} ({report['state']})"), title_justify="left")
    table.add_column("evaluation")
    for column in ("pretrained", "random init", "gain", "published"):
        table.add_column(column, justify="right")
    table.add_column("")
    verdicts = {"gain": "gain", "none": "no gain shown", "loss": "below random", None: ""}
    for entry in report["evaluations"]:
        published = entry["published"]
        table.add_row(
            Text(entry["name"]),
            _accuracy(entry["pretrained"]),
            _accuracy(entry["baseline"]),
            _with_error(wording.signed(entry["gain"]), entry["gain_standard_error"]),
            Text(wording.decimal(published["value"]) if published else wording.UNKNOWN),
            Text(verdicts[entry["verdict"]], style="green" if entry["verdict"] == "gain" else ""),
        )
    if not report["evaluations"]:
        table.add_row(Text("none declared"))
    return table


def _accuracy(side: Mapping[str, Any] | None) -> Text:
    if side is None:
        return Text(wording.UNKNOWN)
    if side["state"] != "done":
        return Text({"failed": "failed", "missing": "not run"}[side["state"]], style="red")
    return _with_error(wording.decimal(side["value"]), side["standard_error"])


def _with_error(value: str, standard_error: float | None) -> Text:
    return Text(value if standard_error is None else f"{value} ± {wording.decimal(standard_error)}")


def _facts(report: Report) -> Table:
    pretraining, errors = report["pretraining"], report["reconstruction"]
    first, last = (wording.significant(pretraining[name]) for name in ("loss_first", "loss_last"))
    lines = {
        "pretraining": [
            f"{wording.plural(pretraining['steps'], 'step')}, "
            f"{wording.plural(pretraining['samples'], 'sample')}",
            f"in {wording.duration(pretraining['seconds'])}; loss {first} → {last}",
        ],
        "speed": [
            f"{wording.rate(pretraining['samples_per_second'])} samples/s,",
            *([] if pretraining["mfu"] is None else [f"MFU {wording.percent(pretraining['mfu'])},"]),
            f"{wording.percent(pretraining['data_wait_share'])} of the time waiting for data,",
            wording.plural(pretraining["faults"], "fault"),
        ],
    }
    if errors and errors["state"] == "done":
        lines["reconstruction"] = [
            f"error {wording.significant(errors['model_mse'])};",
            f"mean of visible pixels {wording.significant(errors['mean_visible_mse'])},",
            f"nearest visible patch {wording.significant(errors['nearest_visible_mse'])}",
        ]
    table = Table.grid(padding=(0, 2))
    for name, words in lines.items():
        table.add_row(name, Text(" ".join(words)))
    return table


def leaderboard_page(board: Mapping[str, Any], console: Console) -> Group:
    """What rich prints for the dict of `leaderboard.leaderboard`: a table per protocol and data set."""
    parts: list[Table | Text] = []
    for group in board["groups"]:
        headings, cells = leaderboard.table(group)
        table = fitted_table(
            [dict(zip(headings, map(Text, row), strict=True)) for row in cells],
            console,
            first_to_go=("evaluated", "one view", "cost"),
            on_the_right=("epochs",),
            styles=["dim" if row["kind"] == "published" else "" for row in group["rows"]],
        )
        parts += [Text(leaderboard.heading(group), style="bold"), table, Text("")]
    if board["unfinished"]:
        parts.append(Text("Without a number yet:", style="bold yellow"))
        parts += [Text(f"  {line}") for line in leaderboard.unfinished_lines(board)]
    return Group(*parts)


def differences_table(runs: Sequence[str], differences: Mapping[str, Sequence[Any]]) -> Table:
    """What rich prints for the dict of `differences.differences`: a row per field, a column per run."""
    title = "Where the configs differ" if differences else "The configs do not differ"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, show_header=bool(differences))
    for heading in ("field", *runs):
        table.add_column(Text(heading), overflow="fold")
    for field, values in differences.items():
        table.add_row(Text(field), *(Text(value_words(value)) for value in values))
    return table
