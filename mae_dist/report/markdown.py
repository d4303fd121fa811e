"""The results of a report, and of several runs beside each other, as Markdown: for a wiki, an issue, a mail.

Text from outside (names, URIs, reasons) is escaped, so that it stays text and stays in its cell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mae_dist.report import leaderboard, wording
from mae_dist.report.differences import value_words

Report = Mapping[str, Any]

_STATES = {"failed": "failed", "missing": "not run"}
_VERDICTS = {"gain": "gain", "none": "no gain shown", "loss": "below random weights", None: ""}


def report_markdown(report: Report) -> str:
    """The results of one run: warnings, evaluations, pretraining, reconstruction, what is missing, cost,
    provenance, the commands that give it again."""
    parts = [f"# {text(str(report['name'] or 'unnamed run'))} ({report['state']})"]
    parts += [f"**Early warning.** {text(sentence)}" for sentence in report["warnings"]]
    parts += [*_evaluations(report), _list("Pretraining", _pretraining(report))]
    parts += [_list("Reconstruction", _reconstruction(report))]
    unfinished = {entry["what"]: entry["reason"] for entry in report["unfinished"]}
    parts += [_list("Missing", unfinished), _list("Cost", _cost(report["cost"]))]
    parts += [_list("Provenance", _provenance(report)), *_reproduction(report)]
    return "\n\n".join(filter(None, parts)) + "\n"


def leaderboard_markdown(board: Mapping[str, Any]) -> str:
    """The dict of `leaderboard.leaderboard`, a table under a heading for each protocol and data set."""
    parts = []
    for group in board["groups"]:
        parts += [f"## {text(leaderboard.heading(group))}", table(*leaderboard.table(group))]
    lines = leaderboard.unfinished_lines(board)
    if lines:
        parts += ["## Without a number yet", "\n".join(f"- {text(line)}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def differences_markdown(runs: Sequence[str], differences: Mapping[str, Sequence[Any]]) -> str:
    """The dict of `differences.differences`, a row per field and a column per run."""
    if not differences:
        return "## The configs do not differ\n"
    rows = [[field, *map(value_words, values)] for field, values in differences.items()]
    return f"## Where the configs differ\n\n{table(['field', *runs], rows)}\n"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of plain text as a table."""
    lines = ["| " + " | ".join(map(text, cells)) + " |" for cells in (headings, *rows)]
    return "\n".join([lines[0], "|---" * len(headings) + "|", *lines[1:]])


def text(plain: str) -> str:
    """Plain text on one line, with what Markdown would understand escaped."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(plain.split()))


def _evaluations(report: Report) -> list[str]:
    if not report["evaluations"]:
        return []
    rows = [
        [
            entry["name"],
            wording.label(entry["metric"]),
            _side(entry["pretrained"]),
            _side(entry["baseline"]),
            _with_error(wording.signed(entry["gain"]), entry["gain_standard_error"]),
            _VERDICTS[entry["verdict"]],
            _published(entry["published"]),
        ]
        for entry in report["evaluations"]
    ]
    headings = ["evaluation", "metric, %", "pretrained", "random init", "gain", "", "published"]
    return ["## Evaluations", table(headings, rows)]


def _side(side: Mapping[str, Any] | None) -> str:
    if side is None:
        return wording.UNKNOWN
    if side["state"] != "done":
        return _STATES[side["state"]]
    value = _with_error(wording.decimal(side["value"]), side["standard_error"])
    if not side["interval"]:
        return value
    return f"{value} {wording.interval(side['interval'])}"


def _with_error(value: str, standard_error: float | None) -> str:
    return value if standard_error is None else f"{value} ± {wording.decimal(standard_error)}"


def _published(published: Mapping[str, Any] | None) -> str:
    return f"{wording.decimal(published['value'])} ({published['source']})" if published else wording.UNKNOWN


def _pretraining(report: Report) -> dict[str, str]:
    about = report["pretraining"]
    first, last = (wording.significant(about[name]) for name in ("loss_first", "loss_last"))
    return {
        "length": f"{wording.plural(about['steps'], 'step')}, {wording.plural(about['samples'], 'sample')}, "
        f"{wording.significant(about['epochs'])} epochs in {wording.duration(about['seconds'])}",
        "loss": f"{first} → {last}",
        "throughput": f"{wording.rate(about['samples_per_second'])} samples/s, "
        f"{wording.percent(about['data_wait_share'])} of the time waiting for data",
        "MFU": wording.percent(about["mfu"]),
        "unreadable samples": f"replaced {wording.plural(about['faults'], 'time')}",
    }


def _reconstruction(report: Report) -> dict[str, str]:
    errors = report["reconstruction"]
    if not errors or errors["state"] != "done":
        return {}
    return {
        "error of hidden patches": wording.significant(errors["model_mse"]),
        "of the mean of the visible pixels": wording.significant(errors["mean_visible_mse"]),
        "of the nearest visible patch": wording.significant(errors["nearest_visible_mse"]),
    }


def _cost(cost: Mapping[str, Any] | None) -> dict[str, str]:
    if cost is None:
        return {}
    hours = {"GPU hours": cost["gpu_hours"], "CPU hours": cost["cpu_hours"]}
    lost = {"GPU hours": cost["lost_gpu_hours"], "CPU hours": cost["lost_cpu_hours"]}
    facts = {
        f"{unit} reserved": f"{wording.significant(number)}, of which {wording.significant(lost[unit])} in "
        "attempts that failed"
        for unit, number in hours.items()
        if number
    }
    wall, busy = wording.duration(cost["wall_seconds"]), wording.duration(cost["busy_seconds"])
    return facts | {"wall clock": f"{wall}, at work {busy} of it"}


def _reproduction(report: Report) -> list[str]:
    """Commands as indented code, which needs no escaping."""
    if not report["reproduction"]:
        return []
    parts = ["## The same again"]
    for step in report["reproduction"]:
        parts += [f"{text(step['what'])}:", f"    {' '.join(step['command'].split())}"]
    return parts


def _provenance(report: Report) -> dict[str, str]:
    known = report["provenance"]
    code, versions = known["code"] or {}, known["versions"] or {}
    facts = {
        "run directory": report["run_directory"],
        "command": known["command"],
        "code revision": code.get("revision")
        and f"{code['revision']}{' with uncommitted changes' if code.get('dirty') else ''}",
        "tree of the package": code.get("tree"),
        "catalog digest": (known["catalog"] or {}).get("digest"),
        "test catalog digest": (known["test_catalog"] or {}).get("digest"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "report made": report["created_utc"],
    }
    return {name: str(fact) for name, fact in facts.items() if fact}


def _list(title: str, facts: Mapping[str, str]) -> str:
    if not facts:
        return ""
    return f"## {title}\n\n" + "\n".join(f"- {text(name)}: {text(fact)}" for name, fact in facts.items())
