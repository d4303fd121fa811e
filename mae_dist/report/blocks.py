"""Parts that several sections of the page are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mae_dist.report import wording
from mae_dist.report.markup import Html, join, tag


def section(title: str, *children: str | None) -> Html:
    """A part of the page under a heading; the title in lower case is its anchor."""
    return tag("section", tag("h2", title), *children, id=title.lower())


def card(title: str, value: str, *notes: str, tone: str | None = None) -> Html:
    """One headline number: what it is, the number, what it means."""
    return tag(
        "div",
        tag("h3", title),
        tag("p", value, class_="value"),
        *[tag("p", note, class_="note") for note in notes],
        class_=f"card {tone}" if tone else "card",
    )


def table(columns: Sequence[str], rows: Sequence[Html], *, class_: str) -> Html:
    """A table with a heading above each column; `rows` are <tr> elements."""
    head = tag("tr", *[tag("th", column, scope="col") for column in columns])
    return tag("table", tag("thead", head), tag("tbody", *rows), class_=class_)


def meter(value: float | None, largest: float, *, is_model: bool = False) -> Html | None:
    """A bar as long as a value is of the largest; None where it is not known. The model's has its colour."""
    if not wording.is_number(value) or largest <= 0:
        return None
    width = f"width:{100 * max(0.0, value) / largest:.1f}%"
    return tag("span", class_="model" if is_model else "trivial", style=width)


def definitions(mapping: Mapping[str, object]) -> Html:
    """Names and values; what is nested becomes one line."""
    pairs = [
        join(tag("dt", str(key)), tag("dd", value if isinstance(value, Html) else one_line(value)))
        for key, value in mapping.items()
    ]
    return tag("dl", *pairs)


def one_line(value: object) -> str:
    """A JSON value as text without brackets: {"a": [1, 2]} -> "a 1, 2"."""
    if value in (None, "", [], {}):
        return wording.UNKNOWN
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {one_line(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(one_line, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
