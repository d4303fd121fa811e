"""A table for the terminal that rather loses a column than breaks its words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_ANY_COLUMNS = 10_000


def fitted_table(
    rows: Sequence[Mapping[str, RenderableType]],
    console: Console,
    *,
    first_to_go: Sequence[str] = (),
    on_the_right: Collection[str] = (),
    styles: Sequence[str] | None = None,
) -> Table:
    """Rows by heading, all with the same ones; text from outside must come as rich's Text.

    A column without any text is left out, and then those `first_to_go`, one after the other, until the table
    fits into the console. `styles` are those of the rows.
    """
    headings = [heading for heading in (rows[0] if rows else ()) if any(row[heading] for row in rows)]
    leaving = [heading for heading in first_to_go if heading in headings]
    while True:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
        for heading in headings:
            justify = "right" if heading in on_the_right else "left"
            table.add_column(Text(heading), justify=justify, overflow="fold")
        for number, row in enumerate(rows):
            table.add_row(*(row[heading] for heading in headings), style=styles[number] if styles else None)
        wanted = console.measure(table, options=console.options.update(max_width=_ANY_COLUMNS)).maximum
        if not leaving or wanted <= console.width:
            return table
        gone = leaving.pop(0)
        headings = [heading for heading in headings if heading != gone]
