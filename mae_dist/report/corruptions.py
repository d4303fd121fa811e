"""The part of an evaluation that goes by corruption: errors on corrupted images, beside their means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mae_dist.report import wording
from mae_dist.report.blocks import definitions, meter, table
from mae_dist.report.markup import Html, join, tag


def corruptions(entry: Mapping[str, Any]) -> Html | None:
    """A table for an entry of the report's evaluations, smallest error first; None of other test sets."""
    start = "pretrained" if entry["corruptions"]["pretrained"] else "random"
    found = entry["corruptions"][start]
    if not found:
        return None
    published = found["published"]
    facts: dict[str, object] = {"Mean error": f"{wording.decimal(found['mean_error'])} %"}
    if found["mean_corruption_error"] is not None:
        facts["Mean corruption error (mCE)"] = wording.decimal(found["mean_corruption_error"])
    if published:
        facts["Published"] = f"{wording.decimal(published['value'])}, {published['source']}"
    rows = [
        tag(
            "tr",
            tag("th", str(row["corruption"]).replace("_", " "), scope="row"),
            tag("td", wording.decimal(row["error"])),
            tag("td", meter(row["error"], 100.0, is_model=start == "pretrained"), class_="meter"),
        )
        for row in sorted(found["table"], key=lambda row: row["error"])
    ]
    return join(
        tag("h4", f"Corruptions from {start} weights"),
        definitions(facts),
        tag("div", table(["Corruption", "Error, %", ""], rows, class_="compact"), class_="scroll"),
    )
