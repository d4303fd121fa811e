"""The page: one HTML file that needs nothing else, on a wide screen, a phone or paper, light or dark.

report dict + gallery -> a file per section (results, checkpoints, ...) -> page with its stylesheet
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from mae_dist.report import results, training, wording
from mae_dist.report.checkpoints import checkpoints, warnings
from mae_dist.report.markup import Html, join, raw, tag
from mae_dist.report.reconstruction import reconstruction
from mae_dist.report.run_files import RunFiles
from mae_dist.report.steps import steps

Report = Mapping[str, Any]

# The page forbids itself every request and every script, whatever an input managed to put into it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(report: Report, run: RunFiles) -> str:
    """The whole document for a report dict and the files it was made from."""
    config = report["provenance"]["config"]
    unit = "clip" if (config.get("input") or {}).get("frames", 1) > 1 else "image"
    target = (config.get("target") or {}).get("kind", "")
    sections = {
        "Evaluations": results.evaluations(report),
        "Checkpoints": checkpoints(report),
        "Reconstruction": reconstruction(report["reconstruction"], run.gallery, target=target),
        "Curves": training.curves(report),
        "Data": training.data(report, unit=unit),
        "Steps": steps(report),
        "Provenance": training.provenance(report, config_text=run.config_text),
    }
    shown = {title: section for title, section in sections.items() if section is not None}
    made = f"Made {report['created_utc']}. All numbers of this page are in report.json beside it."
    return document(
        f"{_name(report)} · mae_dist report",
        _header(report, list(shown)),
        tag(
            "main",
            warnings(report),
            results.unfinished(report),
            results.headline(report, unit=unit),
            *shown.values(),
        ),
        tag("footer", tag("p", made)),
    )


def document(title: str, *content: Html) -> str:
    """A whole HTML file of these parts, which needs and may load nothing else."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", raw(stylesheet())),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", *content), lang="en") + "\n"


def stylesheet() -> str:
    """The content of page.css."""
    return resources.files("mae_dist.report").joinpath("page.css").read_text()


def _name(report: Report) -> str:
    return str(report["name"] or "unnamed run")


def _header(report: Report, titles: list[str]) -> Html:
    return tag(
        "header",
        tag("p", "mae_dist report", class_="kicker"),
        tag("h1", _name(report)),
        tag(
            "p",
            tag("span", report["state"], class_=f"chip {report['state']}"),
            " ",
            _one_sentence(report),
            class_="subtitle",
        ),
        tag("nav", *[join(tag("a", title, href=f"#{title.lower()}"), " ") for title in titles]),
    )


def _one_sentence(report: Report) -> str:
    config, pretraining = report["provenance"]["config"], report["pretraining"]
    mask, given = config.get("mask") or {}, config.get("input") or {}
    parts = [str((config.get("model") or {}).get("size", "model unknown"))]
    sides = ("frames", "height", "width") if given.get("frames", 1) > 1 else ("height", "width")
    shape = [str(given[side]) for side in sides if side in given]
    parts.append(" × ".join(shape) + " pixels" if shape else "")
    if mask.get("ratio") is not None:
        parts.append(f"{mask.get('kind', 'random')} mask {wording.percent(mask['ratio'], 0)}")
    given = config.get("weights")
    parts.append(wording.plural(pretraining["steps"], "step") if given is None else "weights given")
    return " · ".join(filter(None, parts))
