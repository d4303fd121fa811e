"""How the pretraining of a run went, as plain data for report.json.

steps             last step logged. planned_steps: those the config asks for, null if it cannot be told.
epochs            passes over the catalog at the last logged step. samples: steps * global batch.
is_finished       whether the final weights were exported. reason: why it failed, null if it did not.
loss_first, loss_last    of the first and the last logged line.
seconds           wall-clock of training; after a resume only the steps that count are timed.
samples_per_second       median of the logged lines, over all workers together.
tflops, mfu       medians: operations the model needed per second and worker / 1e12, and as a share of the
                  peak of its device; null where nothing is known of that.
data_wait_share   share of the step time spent waiting for data, lines weighted by their time.
decode_cpu_ms, read_bytes_per_second     medians: CPU time per decoded sample, bytes read.
storage_requests, storage_retries        sums: to object stores, and repetitions of them.
skipped_updates   steps that left no trace in the weights.
faults            how often an unreadable sample was replaced; torn_log_lines: lines cut off by a kill.
faulty_samples    [{"uri", "sample", "reason", "times", "first_step"}], the most frequent first.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mae_dist.config.duration import parse_duration
from mae_dist.report.run_files import RunFiles
from mae_dist.report.wording import is_number

_MEDIANS = ("samples_per_second", "tflops", "mfu", "decode_cpu_ms", "read_bytes_per_second")
_SUMS = ("storage_requests", "storage_retries")


def pretraining(run: RunFiles) -> dict[str, Any]:
    """The fields listed at the top of this file."""
    lines = run.metrics
    last = lines[-1] if lines else {}
    steps = last.get("step", 0)
    return {
        "steps": steps,
        "planned_steps": _planned_steps(run),
        "epochs": last.get("epoch"),
        "samples": steps * (run.config.get("train") or {}).get("global_batch", 0),
        "is_finished": run.is_exported,
        "reason": (run.done or {}).get("reason"),
        "loss_first": lines[0].get("loss") if lines else None,
        "loss_last": last.get("loss"),
        "seconds": training_seconds([line.get("seconds") for line in lines]),
        **{name: _over(lines, name, statistics.median) for name in _MEDIANS},
        **{name: _over(lines, name, math.fsum) for name in _SUMS},
        "data_wait_share": _data_wait_share(lines),
        "skipped_updates": last.get("skipped_updates"),
        "faults": len(run.faults),
        "faulty_samples": _faulty_samples(run.faults),
        "torn_log_lines": run.torn_lines,
    }


def training_seconds(clock: Sequence[object]) -> float | None:
    """Time passed by a clock read at every logged line, which begins at 0 again when a run is resumed."""
    readings = [reading for reading in clock if is_number(reading)]
    if not readings:
        return None
    pairs = zip([0.0, *readings], readings, strict=False)
    return math.fsum(now - before if now >= before else now for before, now in pairs)


def _over(
    lines: Sequence[Mapping[str, Any]], name: str, figure: Callable[[list[float]], float]
) -> float | None:
    values = [line[name] for line in lines if is_number(line.get(name))]
    return figure(values) if values else None


def _data_wait_share(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Weighted by 1 / samples_per_second, the time of a step, as lines are equally many steps apart."""
    weighted = [
        (1 / line["samples_per_second"], line["data_wait_share"])
        for line in lines
        if is_number(line.get("data_wait_share")) and is_number(line.get("samples_per_second"))
        if line["samples_per_second"] > 0
    ]
    total = math.fsum(weight for weight, _ in weighted)
    return math.fsum(weight * share for weight, share in weighted) / total if weighted else None


def _planned_steps(run: RunFiles) -> int | None:
    train = run.config.get("train") or {}
    num_samples = (run.environment.get("catalog") or {}).get("num_samples")
    try:
        length = parse_duration(train.get("length"))
    except ValueError:
        return None
    if length.unit == "epochs" and not (num_samples and train.get("global_batch")):
        return None
    return length.steps(
        samples_per_epoch=num_samples or 0,
        global_batch=train.get("global_batch") or 1,
    )


def _faulty_samples(faults: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    by_uri: dict[str, dict[str, Any]] = {}
    for fault in faults:
        known = by_uri.setdefault(
            f"{fault.get('uri')}\n{fault.get('sample')}",
            {
                "uri": fault.get("uri"),
                "sample": fault.get("sample"),
                "reason": fault.get("reason"),
                "times": 0,
                "first_step": fault["step"],
            },
        )
        known["times"] += 1
        known["first_step"] = min(known["first_step"], fault["step"])
    return sorted(by_uri.values(), key=lambda entry: (-entry["times"], entry["first_step"]))
