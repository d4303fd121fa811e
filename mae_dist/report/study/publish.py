"""The directory of a study: table.json, table.md, plot.svg and index.html."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mae_dist import storage
from mae_dist.report.study.chart import standalone, study_plot
from mae_dist.report.study.page import study_page
from mae_dist.report.study.words import study_markdown


def study_uri(where: str, name: str, scale: str) -> str:
    """The directory of a study at one scale, beside the runs in `where`."""
    stem = name.rpartition("studies/")[2].removesuffix(".yaml").removesuffix(".yml")
    return storage.join(where, f"study-{stem.replace('/', '-')}-{scale}")


def write_study(uri: str, table: Mapping[str, Any]) -> None:
    """Write all four from the dict of `table.study_table`; any earlier ones are replaced."""
    plot = study_plot(table)
    if plot is not None:
        _write_text(storage.join(uri, "plot.svg"), standalone(plot))
    _write_text(storage.join(uri, "index.html"), study_page(table))
    _write_text(storage.join(uri, "table.md"), study_markdown(table))
    storage.write_json(storage.join(uri, "table.json"), table)


def _write_text(uri: str, text: str) -> None:
    # A URI may hold bytes that are no text.
    storage.write_bytes(uri, text.encode(errors="backslashreplace"))
