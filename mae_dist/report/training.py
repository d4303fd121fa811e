"""The part of the page that says how it went: curves, data and faults, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mae_dist.report import plots, wording
from mae_dist.report.blocks import definitions, one_line, section, table
from mae_dist.report.markup import Html, join, tag

Report = Mapping[str, Any]

FAULTS_SHOWN = 100
"""Rows of the table of faults; report.json has all."""


def curves(report: Report) -> Html | None:
    """Loss, speed and the evaluations' curves; None where nothing was logged."""
    known = report["curves"]
    drawings = [plots.loss_curve(known["pretraining"]), plots.speed_curve(known["pretraining"])]
    for entry in report["evaluations"]:
        trained = [its for its in known["evaluations"] if its["name"] == entry["name"]]
        drawings.append(plots.evaluation_curve(entry["name"], trained))
    shown = [tag("figure", drawing) for drawing in drawings if drawing]
    return section("Curves", tag("div", *shown, class_="plots")) if shown else None


def data(report: Report, *, unit: str) -> Html:
    """Where the samples came from, how fast, and which could not be read."""
    pretraining, provenance = report["pretraining"], report["provenance"]
    catalog, test_catalog = provenance["catalog"] or {}, provenance["test_catalog"] or {}
    declared = provenance["config"].get("data") or {}
    facts: dict[str, object] = {
        "Catalog": _catalog_words(catalog, _declared_words(declared), unit),
        **_source_words(catalog, pretraining["samples"]),
        "Test catalog": _catalog_words(test_catalog, declared.get("test_catalog"), unit),
        "Samples seen": f"{wording.plural(pretraining['samples'], unit)}, "
        f"{wording.significant(pretraining['epochs'])} epochs",
        "Throughput": f"{wording.rate(pretraining['samples_per_second'])} {unit}s per second, all workers",
        "Arithmetic": _arithmetic_words(pretraining),
        "Data wait": f"{wording.percent(pretraining['data_wait_share'])} of the step time",
        "Decoding": _decoding_words(pretraining, unit),
        "Requests to object stores": _request_words(pretraining),
        "Unreadable samples": f"replaced {wording.plural(pretraining['faults'], 'time')}"
        if pretraining["faults"]
        else "none",
    }
    if pretraining["torn_log_lines"]:
        facts["Log lines cut off by a kill"] = wording.count(pretraining["torn_log_lines"])
    return section("Data", definitions(facts), _faults(pretraining["faulty_samples"]))


def _catalog_words(catalog: Mapping[str, Any], declared: str | None, unit: str) -> str:
    if not catalog:
        return f"{declared} (not listed yet)" if declared else "none"
    return f"{catalog.get('uri', wording.UNKNOWN)} ({wording.plural(catalog.get('num_samples') or 0, unit)})"


def _declared_words(declared: Mapping[str, Any]) -> str | None:
    mix = declared.get("mix") or {}
    return f"mix of {', '.join(sorted(mix))}" if mix else declared.get("catalog")


def _source_words(catalog: Mapping[str, Any], samples: int) -> dict[str, str]:
    """One line per source of a mix: what, how large a share, how often it was gone through."""
    return {
        f"Source {name}": f"{source['uri']} ({wording.count(source['num_samples'])} samples), "
        f"{wording.percent(source['share'])} of the stream, "
        f"{wording.significant(samples * source['share'] / source['num_samples'])} epochs of its own"
        for name, source in (catalog.get("sources") or {}).items()
    }


def _arithmetic_words(pretraining: Mapping[str, Any]) -> str:
    if pretraining["tflops"] is None:
        return wording.UNKNOWN
    words = f"{wording.significant(pretraining['tflops'])} TFLOP/s per worker needed by the model"
    if pretraining["mfu"] is None:
        return f"{words}; the device's peak is not known (resources.peak_tflops)"
    return f"{words}, {wording.percent(pretraining['mfu'])} of the device's peak (MFU)"


def _decoding_words(pretraining: Mapping[str, Any], unit: str) -> str:
    if pretraining["decode_cpu_ms"] is None:
        return wording.UNKNOWN
    return (
        f"{wording.significant(pretraining['decode_cpu_ms'])} ms of CPU time per {unit}, "
        f"{wording.significant(pretraining['read_bytes_per_second'] / 1e6)} MB read per second"
    )


def _request_words(pretraining: Mapping[str, Any]) -> str:
    requests, retries = pretraining["storage_requests"], pretraining["storage_retries"]
    if not requests:
        return wording.UNKNOWN if requests is None else "none"
    return f"{wording.count(requests)}, {wording.count(retries) if retries else 'none'} of them repeated"


def _faults(faulty: list[dict[str, Any]]) -> Html | None:
    if not faulty:
        return None
    rows = [
        tag(
            "tr",
            tag("td", tag("code", one_line(entry["uri"])), data_label="URI"),
            tag("td", one_line(entry["reason"]), data_label="Reason"),
            tag("td", wording.count(entry["times"]), data_label="Times"),
            tag("td", wording.count(entry["first_step"]), data_label="First in step"),
        )
        for entry in faulty[:FAULTS_SHOWN]
    ]
    left_out = len(faulty) - len(rows)
    return join(
        tag("h3", "Faults"),
        tag(
            "p",
            "Each of these was replaced by another sample that the seed decides, and counted.",
            class_="lead",
        ),
        tag(
            "div",
            table(["URI", "Reason", "Times", "First in step"], rows, class_="stack faults"),
            class_="scroll",
        ),
        tag("p", f"{wording.plural(left_out, 'more sample')}: see report.json.") if left_out else None,
    )


def provenance(report: Report, *, config_text: str) -> Html:
    """What is needed to get the same numbers again."""
    known = report["provenance"]
    code, catalog, test_catalog = known["code"] or {}, known["catalog"] or {}, known["test_catalog"] or {}
    revision = tag("code", one_line(code.get("revision")))
    facts: dict[str, object] = {
        "Command": tag("code", one_line(known["command"])),
        "Run directory": tag("code", one_line(report["run_directory"])),
        "Started": one_line(known["run_created_utc"]),
        "Code revision": join(revision, " with uncommitted changes" if code.get("dirty") else None),
        "Tree of the package": tag("code", one_line(code.get("tree"))),
        "Catalog digest": tag("code", one_line(catalog.get("digest"))),
    }
    for name, source in (catalog.get("sources") or {}).items():
        facts[f"Digest of {name}"] = tag("code", one_line(source["digest"]))
    if test_catalog:
        facts["Test catalog digest"] = tag("code", one_line(test_catalog.get("digest")))
    facts["Seed"] = one_line(known["config"].get("seed", 0))
    commands = [
        join(tag("dt", entry["what"]), tag("dd", tag("pre", tag("code", entry["command"]))))
        for entry in report["reproduction"]
    ]
    return section(
        "Provenance",
        definitions(facts),
        tag("h3", "The same again"),
        tag("dl", *commands, class_="commands"),
        tag("details", tag("summary", "Hardware"), definitions(known["hardware"] or {})),
        tag("details", tag("summary", "Versions"), definitions(known["versions"] or {})),
        tag("details", tag("summary", "Config"), tag("pre", tag("code", config_text))),
    )
