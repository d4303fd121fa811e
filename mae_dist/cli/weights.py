"""`mae-dist weights inspect | convert | check | export`: weights of any dialect, in and out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mae_dist import storage
from mae_dist.config.geometry import ARCHITECTURES, Stack
from mae_dist.model.weights.header import WeightsError
from mae_dist.report.run_files import NotARunError, read_run
from mae_dist.report.summary import summarise

if TYPE_CHECKING:
    from mae_dist.model.weights.parity import Comparison
    from mae_dist.model.weights.reading import Weights
    from mae_dist.model.weights.stated import Stated

CLOSE = 1e-4
"""Of the largest value: what `check` takes for rounding. Half a digit of a wrong epsilon is 1e-5, a wrong
number of heads or a permuted patch is near 1."""
TO = ("timm", "huggingface", "authors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """inspect, convert, check and export, and what may be stated of a file that does not say it."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, summary in (
        ("inspect", "say whose weights a file holds, of what model, and what is unusual"),
        ("convert", "write weights of any dialect as ours, for `weights:` of a recipe and for mae_dist.load"),
        ("check", "run our model and timm's or transformers' on the same input"),
        ("export", "write a folder that timm, transformers or the authors' code reads"),
    ):
        action = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        action.add_argument(
            "weights",
            metavar="WEIGHTS",
            help="run directory, file, or folder with weights, of any known dialect; may be s3://...",
        )
        if name == "convert":
            action.add_argument(
                "destination", metavar="FILE", help="safetensors file to write; may be s3://..."
            )
        if name == "export":
            action.add_argument("destination", metavar="FOLDER", help="folder to write into; may be s3://...")
            action.add_argument("--to", required=True, choices=TO, help="who is to read it")
        if name in ("inspect", "check"):
            action.add_argument("--json", action="store_true", help="print JSON instead of a table")
        _add_statements(action)


def _add_statements(parser: argparse.ArgumentParser) -> None:
    stated = parser.add_argument_group("what a file may not say")
    stated.add_argument("--encoder-only", action="store_true", help="leave out a decoder or a head")
    stated.add_argument("--heads", metavar="ENCODER[,DECODER]", type=_heads, help="attention heads")
    stated.add_argument("--input", metavar="FRAMESxHEIGHTxWIDTH", type=_input, help="in pixels")
    stated.add_argument("--mean", metavar="R,G,B", type=_colour, help="of pixels in [0, 1]")
    stated.add_argument("--std", metavar="R,G,B", type=_colour, help="of pixels in [0, 1]")
    stated.add_argument(
        "--target",
        choices=("pixel", "norm_pixel_mae", "norm_pixel_videomae"),
        help="what the decoder predicts",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked; 2 for weights that cannot be used, 1 if `check` finds a difference."""
    from mae_dist.model.weights.location import read_at

    try:
        weights, uri = read_at(
            arguments.weights, given=_stated(arguments), encoder_only=arguments.encoder_only
        )
        if arguments.action == "inspect":
            return _inspect(weights, uri, as_json=arguments.json)
        if arguments.action == "check":
            return _check(weights, as_json=arguments.json)
        if arguments.action == "convert":
            return _convert(weights, arguments.destination)
        return _export(weights, arguments.weights, arguments.destination, arguments.to)
    except WeightsError as error:
        print(error, file=sys.stderr)
        return 2


def _heads(text: str) -> tuple[int, ...]:
    heads = _numbers(text, ",", int, (1, 2))
    if heads is None:
        raise argparse.ArgumentTypeError(f"expected heads as in 12 or 12,16, got {text!r}")
    return heads


def _input(text: str) -> tuple[int, ...]:
    pixels = _numbers(text, "x", int, (3,))
    if pixels is None:
        raise argparse.ArgumentTypeError(f"expected frames, height and width as in 16x224x224, got {text!r}")
    return pixels


def _colour(text: str) -> tuple[float, ...]:
    colour = _numbers(text, ",", float, (3,))
    if colour is None:
        raise argparse.ArgumentTypeError(f"expected red, green, blue as in 0.5,0.5,0.5, got {text!r}")
    return colour


def _numbers(text: str, separator: str, kind: Callable[[str], Any], counts: tuple[int, ...]) -> Any:
    """So many positive numbers; None if the text is something else."""
    try:
        numbers = tuple(map(kind, text.split(separator)))
    except ValueError:
        return None
    return numbers if len(numbers) in counts and min(numbers) > 0 else None


def _stated(arguments: argparse.Namespace) -> Stated:
    from mae_dist.model.weights.stated import Stated

    frames, height, width = arguments.input or (None, None, None)
    encoder_heads, decoder_heads = ((*(arguments.heads or ()), None, None))[:2]
    return Stated(
        encoder_heads=encoder_heads,
        decoder_heads=decoder_heads,
        frames=frames,
        height=height,
        width=width,
        mean=arguments.mean,
        std=arguments.std,
        target=arguments.target,
    )


def _inspect(weights: Weights, uri: str, *, as_json: bool) -> int:
    found = description(weights, uri)
    if as_json:
        json.dump(found, sys.stdout, indent=2, ensure_ascii=False)
        print()
        return 0
    from rich.table import Table

    from mae_dist.cli.status import terminal

    shown = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    shown.add_column(style="bold cyan", no_wrap=True)
    shown.add_column()
    remarks = found.pop("remarks")
    for name, value in found.items():
        shown.add_row(name.replace("_", " "), _words(value))
    for remark in remarks:
        shown.add_row("note", remark)
    terminal().print(shown)
    return 0


def description(weights: Weights, uri: str) -> dict[str, Any]:
    """What `inspect` says, as plain data; sizes in frames and pixels, parameters without positions."""
    card, architecture = weights.card, weights.card.architecture
    encoder, decoder = architecture.encoder, architecture.decoder
    fixed = (architecture.patch, architecture.tubelet, encoder)
    sizes = [name for name, its in ARCHITECTURES.items() if (its.patch, its.tubelet, its.encoder) == fixed]
    has_decoder = weights.part.kind == "masked_autoencoder"
    found: dict[str, Any] = {
        "file": uri,
        "dialect": weights.dialect,
        "kind": weights.part.kind.replace("_", " "),
        "size": " or ".join(sizes) or "none that has a name",
        "encoder": _stack(encoder),
        "decoder": _stack(decoder) if has_decoder else "none",
        "input": [card.frames, card.height, card.width],
        "patch": [architecture.tubelet, architecture.patch, architecture.patch],
        "positions": architecture.positions,
        "class_token": architecture.class_token,
        "mean": list(card.mean),
        "std": list(card.std),
        "parameters": sum(t.numel() for name, t in weights.tensors.items() if "positions" not in name),
    }
    if has_decoder:
        found["target"] = card.target
    if weights.part.kind == "classifier":
        found |= {"pooling": weights.part.pool, "classes": len(weights.classes)}
    return found | {"provenance": dict(card.provenance), "remarks": list(weights.remarks)}


def _stack(stack: Stack) -> str:
    mlp = int(stack.width * stack.mlp_ratio)
    return f"width {stack.width}, depth {stack.depth}, heads {stack.heads}, mlp {mlp}"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {text}" for name, text in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)


def _check(weights: Weights, *, as_json: bool) -> int:
    from mae_dist.model.weights.parity import compare

    found = compare(weights)
    if as_json:
        rows = [
            {"library": c.library, "what": c.what, "largest_difference": c.largest_difference}
            | {"largest_value": c.largest_value, "reason": c.reason}
            for c in found
        ]
        print(json.dumps(rows, indent=2))
    else:
        for comparison in found:
            print(_sentence(comparison))
    return int(any(not _is_close(c) for c in found))


def _is_close(comparison: Comparison) -> bool:
    if comparison.largest_difference is None or comparison.largest_value is None:
        return True
    return comparison.largest_difference <= CLOSE * comparison.largest_value


def _sentence(comparison: Comparison) -> str:
    if comparison.reason is not None:
        return f"{comparison.library}: not compared: {comparison.reason}"
    verdict = "equal up to rounding" if _is_close(comparison) else "NOT EQUAL"
    return (
        f"{comparison.library}: {comparison.what} {verdict}, largest difference "
        f"{comparison.largest_difference:.2g} of values up to {comparison.largest_value:.3g}"
    )


def _convert(weights: Weights, target: str) -> int:
    from mae_dist.model.weights.reading import to_native

    if not target.endswith(".safetensors"):
        raise WeightsError(f"{target}: our files are safetensors files; call it something.safetensors")
    storage.write_bytes(target, to_native(weights))
    for remark in weights.remarks:
        print(f"note: {remark}")
    print(f"{target}: {weights.part.kind.replace('_', ' ')} from {weights.dialect}")
    return 0


def _export(weights: Weights, source: str, folder: str, to: str) -> int:
    from mae_dist.model.weights.exports import WRITERS

    files = WRITERS[to](weights)
    for name, data in files.items():
        if name.endswith(".md"):
            data = data + _results(source).encode()
        storage.write_bytes(storage.join(folder, name), data)
        print(storage.join(folder, name))
    return 0


def _results(source: str) -> str:
    """What a run's evaluations gave, for its model card; nothing of weights that are no run's."""
    run = storage.absolute(source).removesuffix("/export/model.safetensors").rstrip("/")
    try:
        report = summarise(read_run(run), created=datetime.now(UTC))
    except (NotARunError, storage.StorageError):
        return ""
    rows = []
    for entry in report["evaluations"]:
        side = entry["pretrained"]
        if side and side["state"] == "done":
            low, high = side["interval"] or (None, None)
            within = "" if low is None else f" ({low:.1f} to {high:.1f})"
            rows.append(f"| {entry['name']} | {entry['protocol']} | {side['value']:.2f}{within} |")
    if not rows:
        return ""
    head = ["", "## Evaluations", "", "Percent, with the 95 % interval.", "", "| name | protocol | result |"]
    return "\n".join([*head, "|---|---|---|", *rows, ""])
