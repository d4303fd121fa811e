"""How the summary of an audit looks in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import filesize
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mae_dist.report import wording

_HEADINGS = {"least": "least", "p5": "5 %", "median": "median", "p95": "95 %", "most": "most"}
_WHOLE = {"width", "height", "frames"}
_GRAVE = {"corrupt", "conflicts", "leaks"}
_REASONS_SHOWN = 8


def print_page(console: Console, summary: Mapping[str, Any], written: Mapping[str, str]) -> None:
    """Print what the samples are, what is wrong with them, and which files were `written`.

    Names go through rich's Text, so that brackets in them are no markup, and are not broken where one copies
    them from.
    """
    catalog = summary["catalog"]
    looked_at = "every frame decoded" if summary["decoded"] else "headers and packets read"
    size = _size(summary["total_bytes"])
    _say(
        console, f"{catalog['uri']}: {wording.plural(catalog['num_samples'], 'sample')}, {size}; {looked_at}"
    )
    if catalog["difference"]:
        _say(console, catalog["difference"], "yellow")
    for medium in ("video", "image"):
        about = summary[f"{medium}s"]
        if about["num_samples"]:
            _say(console, "")
            _say(console, _described(medium, about))
            console.print(_spread(about["spread"]))
    _say(console, "")
    for style, line in _problems(summary):
        _say(console, line, style)
    if written:
        _say(console, "")
    for what, where in written.items():
        _say(console, f"{what:<12}{where}")


def _size(num_bytes: float) -> str:
    return filesize.decimal(round(num_bytes))


def _described(medium: str, about: Mapping[str, Any]) -> str:
    codecs = ", ".join(f"{codec} {count:,}" for codec, count in about["codecs"].items())
    parts = [f"{wording.plural(about['num_samples'], medium)}: {codecs}"]
    if medium == "video":
        parts.append(f"{wording.duration(about['total_seconds'])} in all")
        if about["num_untimed"]:
            parts.append(f"{about['num_untimed']:,} without usable timestamps, decoded from their start")
    return "; ".join(parts)


def _spread(spread: Mapping[str, Mapping[str, float] | None]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    for heading in _HEADINGS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for name, values in spread.items():
        if values is not None:
            write = _size if name == "bytes" else wording.count if name in _WHOLE else wording.decimal
            table.add_row(name, *(write(values[percentile]) for percentile in _HEADINGS))
    return table


def _problems(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(style, line) of each kind of problem: how many samples it concerns, and one of them."""
    counts, num_samples = summary["num_problems"], summary["catalog"]["num_samples"]

    def line(kind: str, detail: str, *, count: int | None = None) -> tuple[str, str]:
        number = counts[kind] if count is None else count
        style = "green" if not number else "bold red" if kind in _GRAVE else "yellow"
        share = f"{wording.percent(number / num_samples):>8}" if number else ""
        return style, f"{kind:<12}{number:>7,}{share}  {detail if number else ''}".rstrip()

    yield line("corrupt", "")
    for entry in summary["reasons"][:_REASONS_SHOWN]:
        yield "", f"{'':12}{entry['num_samples']:>7,}          {entry['example']['reason']}"
        yield "dim", f"{'':29}such as {_place(entry['example'])}"
    if len(summary["reasons"]) > _REASONS_SHOWN:
        yield "", f"{'':29}and {len(summary['reasons']) - _REASONS_SHOWN} more reasons"
    short = [f", such as {sample['key']} with {sample['frames']}" for sample in summary["short"][:1]]
    yield line("short", f"of fewer than {summary['min_frames']} frames{''.join(short)}")
    for kind, what in (("duplicates", "of another sample"), ("conflicts", "equal, with other labels")):
        pair = [f", such as {group[0]['key']} and {group[1]['key']}" for group in summary[kind][:1]]
        yield line(kind, f"{what}{''.join(pair)}")
    for other in summary["leaks"]:
        pair = [f", such as {its['key']}, there {its['there']['key']}" for its in other["samples"][:1]]
        yield line("leaks", f"also in {other['catalog']}{''.join(pair)}", count=len(other["samples"]))
        if other["unread"]:
            yield "yellow", f"{'':29}{other['unread']:,} of its samples could not be read and compared"


def _place(sample: Mapping[str, Any]) -> str:
    """The file, and where it holds several samples also which of them."""
    uri, key = sample["uri"], sample["key"]
    return uri if uri.endswith(key) else f"{uri} ({key})"


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
