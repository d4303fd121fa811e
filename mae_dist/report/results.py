"""The part of the page that says what came out: headline numbers and evaluations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mae_dist.report import plots, wording
from mae_dist.report.blocks import card, definitions, section, table
from mae_dist.report.classes import confusion, per_class
from mae_dist.report.corruptions import corruptions
from mae_dist.report.markup import Html, join, tag
from mae_dist.report.schedule_note import schedule_note
from mae_dist.report.tried import tried

Report = Mapping[str, Any]

_STATE_WORDS = {"failed": "failed", "missing": "not run"}
_PLACE = re.compile(r"(.+)( from \w+ weights| at step \d+)")
"""Of what is unfinished: an evaluation, and which one of it."""


def headline(report: Report, *, unit: str) -> Html:
    """The handful of numbers that a reader came for. `unit` is what a sample is: clip or image."""
    pretraining, reconstruction = report["pretraining"], report["reconstruction"]
    cards = [_evaluation_card(entry) for entry in report["evaluations"] if _is_done(entry["pretrained"])]
    if reconstruction and reconstruction["ratio_to_best_trivial"] is not None:
        cards.append(
            card(
                "Reconstruction error",
                f"{wording.decimal(reconstruction['ratio_to_best_trivial'], 2)} ×",
                "that of the better trivial predictor, on held-out samples"
                + ("; true patch mean and spread given" if reconstruction["own_statistics"] else ""),
            )
        )
    given = report["provenance"]["config"].get("weights")
    if given is not None:
        return tag("div", *cards, card("Weights", "given", given), class_="cards")
    cards.append(
        card(
            "Pretraining",
            wording.plural(pretraining["samples"], unit),
            f"{wording.plural(pretraining['steps'], 'step')} in {wording.duration(pretraining['seconds'])}",
        )
    )
    cards.append(
        card(
            "Throughput",
            f"{wording.rate(pretraining['samples_per_second'])} {unit}s/s",
            f"{wording.percent(pretraining['data_wait_share'])} of the time waiting for data",
        )
    )
    return tag("div", *cards, class_="cards")


def _is_done(side: Mapping[str, Any] | None) -> bool:
    return side is not None and side["state"] == "done"


def _evaluation_card(entry: Mapping[str, Any]) -> Html:
    """What the pretrained encoder reaches, how sure that is, its baseline and the published number."""
    notes = []
    if entry["pretrained"]["interval"]:
        notes.append(f"95 %: {_interval(entry['pretrained']['interval'])}")
    if _is_done(entry["baseline"]):
        notes += [f"random init {wording.decimal(entry['baseline']['value'])}", _gain_words(entry)]
    if entry["published"]:
        notes.append(f"published {wording.decimal(entry['published']['value'])}")
    return card(
        wording.label(entry["name"]),
        f"{wording.decimal(entry['pretrained']['value'])} %",
        *(notes or ["no baseline"]),
        tone="good" if entry["verdict"] == "gain" else None,
    )


def _gain_words(entry: Mapping[str, Any]) -> str:
    words = {"gain": "gain", "loss": "a loss,", "none": "no gain shown,"}.get(entry["verdict"], "difference")
    return f"{words} {wording.signed(entry['gain'])}"


def _interval(ends: Sequence[float]) -> str:
    return f"{wording.decimal(ends[0])}–{wording.decimal(ends[1])}"


def unfinished(report: Report) -> Html | None:
    """What a partial report lacks, with reasons; None if nothing."""
    if not report["unfinished"]:
        return None
    entries = []
    for entry in report["unfinished"]:
        named = _PLACE.fullmatch(entry["what"])
        what = wording.label(named[1]) + named[2] if named else wording.label(entry["what"])
        entries.append(tag("li", tag("strong", what), ": ", entry["reason"]))
    return tag(
        "aside",
        tag("h2", "This report is partial"),
        tag("ul", *entries),
        tag("p", "Running the same job again does what is missing and nothing else."),
        class_="callout",
        id="unfinished",
    )


def evaluations(report: Report) -> Html:
    """Each evaluation beside its random-initialisation baseline and the published number."""
    entries = report["evaluations"]
    if not entries:
        return section("Evaluations", tag("p", "This run declares no evaluations."))
    columns = ["Evaluation", "Pretrained", "Random init", "Gain", "Published"]
    bars = plots.accuracy_bars(entries)
    needs_note = any(entry["verdict"] in ("none", "loss") for entry in entries)
    return section(
        "Evaluations",
        tag(
            "p",
            "Accuracy on held-out samples in percent, of action detection the frame mAP, ± one standard "
            "error where that is known, and the 95 % interval. Random init is the same evaluation without "
            "pretraining, or the one that is named to compare with; the gain is the difference in percentage "
            "points.",
            class_="lead",
        ),
        table(columns, [_evaluation_row(entry) for entry in entries], class_="stack results"),
        tag("ul", *[tag("li", *_verdict(entry)) for entry in entries], class_="verdicts"),
        _schedule_notes(report) if needs_note else None,
        tag("figure", bars, _bars_legend(entries), class_="bars") if bars else None,
        *[_evaluation_details(entry) for entry in entries],
    )


def _schedule_notes(report: Report) -> Html:
    note = schedule_note(report["provenance"]["config"], report["pretraining"])
    command = tag("code", "make showcase")
    showcase = join(" The schedule for one machine that looks for it is ", command, ".")
    return tag(
        "div", tag("h3", "Schedule notes"), tag("p", note, showcase), class_="callout quiet", id="schedule"
    )


def _bars_legend(entries: Sequence[Mapping[str, Any]]) -> Html:
    keys = ["pretrained", "random"] + (["published"] if any(entry["published"] for entry in entries) else [])
    words = {"pretrained": "pretrained", "random": "random init", "published": "published"}
    return tag("figcaption", *[tag("span", words[key], class_=f"key {key}") for key in keys])


def _evaluation_row(entry: Mapping[str, Any]) -> Html:
    name = join(
        tag("span", wording.label(entry["name"]), class_="name"),
        tag("span", _setting_words(entry), class_="sub"),
    )
    published = entry["published"]
    cited = (
        join(wording.decimal(published["value"]), tag("span", published["source"], class_="sub"))
        if published
        else wording.UNKNOWN
    )
    gain_class = {"gain": "good", "loss": "bad"}.get(entry["verdict"] or "")
    gain = tag("span", wording.signed(entry["gain"]), _error(entry["gain_standard_error"]), class_=gain_class)
    return tag(
        "tr",
        tag("th", name, scope="row"),
        tag("td", _accuracy(entry["pretrained"]), data_label="Pretrained"),
        tag("td", _accuracy(entry["baseline"]), data_label="Random init"),
        tag("td", gain if entry["gain"] is not None else wording.UNKNOWN, data_label="Gain"),
        tag("td", cited, data_label="Published"),
    )


def _setting_words(entry: Mapping[str, Any]) -> str:
    side = entry["pretrained"] or entry["random"] or {}
    protocol = wording.label(entry["protocol"] or "protocol unknown")
    # The name of an evaluation often is that of its protocol.
    words = [protocol] if protocol != wording.label(entry["name"]) else []
    words.append(wording.label(entry["metric"]))
    if side.get("num_samples"):
        words.append(f"{wording.count(side['num_samples'])} test samples")
    views = (entry["settings"] or {}).get("views")
    if views not in (None, "1 x 1") and side.get("single_view") is not None:
        words.append(f"{views} views, of which one alone {wording.decimal(side['single_view'])} %")
    if entry["chance"] is not None:
        words.append(f"chance {wording.decimal(entry['chance'])} %")
    if entry["compared_with"]:
        words.append(f"compared with {wording.label(entry['compared_with'])}")
    return " · ".join(words)


def _accuracy(side: Mapping[str, Any] | None) -> str:
    if side is None:
        return wording.UNKNOWN
    if side["state"] != "done":
        return tag("span", _STATE_WORDS[side["state"]], class_=f"chip {side['state']}")
    interval = side["interval"]
    return join(
        tag("span", wording.decimal(side["value"]), _error(side["standard_error"])),
        tag("span", f"95 %: {_interval(interval)}", class_="sub interval") if interval else None,
    )


def _error(standard_error: float | None) -> Html | None:
    if standard_error is None:
        return None
    return tag("span", f" ± {wording.decimal(standard_error)}", class_="error")


def _verdict(entry: Mapping[str, Any]) -> list[str]:
    """One sentence on what the two numbers allow to say."""
    name = tag("strong", wording.label(entry["name"]))
    if entry["gain"] is not None and entry["gain_standard_error"] is None:
        points, metric = wording.signed(entry["gain"]), wording.label(entry["metric"])
        return [name, f": {points} points against random weights; the error of {metric} is not known."]
    error = wording.decimal(entry["gain_standard_error"])
    notes = join("see the ", tag("a", "schedule notes", href="#schedule"), ".")
    if entry["verdict"] == "none":
        sentence = (
            f": no gain shown at this scale. {wording.signed(entry['gain'])} points is within two standard "
            f"errors of zero (one is {error}); "
        )
        return [name, sentence, notes]
    if entry["verdict"] == "loss":
        return [name, f": random weights do better, by {_errors_away(entry)}; ", notes]
    if entry["verdict"] == "gain":
        return [name, f": pretraining helps, by {_errors_away(entry)}."]
    reasons = []
    for start, side in (("pretrained", entry["pretrained"]), ("random", entry["baseline"])):
        if side is None:
            reasons.append(f"the evaluation from {start} weights was not asked for")
        elif side["state"] != "done":
            words = "failed" if side["state"] == "failed" else "is not there"
            reasons.append(f"the evaluation from {start} weights {words}: {str(side['reason']).rstrip('.')}")
    return [name, ": no comparison; ", "; ".join(reasons) or "a standard error is missing", "."]


def _errors_away(entry: Mapping[str, Any]) -> str:
    points = f"{wording.decimal(abs(entry['gain']))} points"
    if not entry["gain_standard_error"]:
        return points
    return f"{points} ({wording.decimal(abs(entry['gain']) / entry['gain_standard_error'])} standard errors)"


def _faults_line(side: Mapping[str, Any] | None, start: str) -> Html | None:
    if not side or not side["faults"]:
        return None
    times = wording.plural(side["faults"], "time")
    return tag("p", f"From {start} weights, an unreadable sample was replaced {times}; see its faults.jsonl.")


def _evaluation_details(entry: Mapping[str, Any]) -> Html | None:
    parts = [_faults_line(entry[start], start) for start in ("pretrained", "random")]
    settings = join(tag("h4", "Settings"), definitions(entry["settings"])) if entry["settings"] else None
    columns = [tried(entry), corruptions(entry), per_class(entry), confusion(entry), settings]
    shown = [tag("div", part) for part in columns if part is not None]
    parts.append(tag("div", *shown, class_="columns") if shown else None)
    if all(part is None for part in parts):
        return None
    has = {
        "what was tried": entry["tried"]["pretrained"] or entry["tried"]["random"],
        "corruptions": entry["corruptions"]["pretrained"] or entry["corruptions"]["random"],
        "classes": entry["per_class"],
        "mistakes": entry["confusion"]["pretrained"] or entry["confusion"]["random"],
        "settings": entry["settings"],
    }
    listed = ", ".join(title for title, present in has.items() if present) or "faults"
    return tag("details", tag("summary", f"{wording.label(entry['name'])}: {listed}"), *parts)
