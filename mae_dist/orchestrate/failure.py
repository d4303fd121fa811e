"""Why an attempt at a step failed: the first cause in one line, and whether it would only come again."""

from __future__ import annotations

import traceback

from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from mae_dist.orchestrate.attempt import Failure

REASON_CHARACTERS = 400
"""Of a failed step's reason; the traceback beside it is whole."""
PERMANENT = frozenset(
    {
        # What was asked for is wrong, or the code is. By name, because of an error in another process Ray may
        # have nothing but its text; those derived from the first group are named for the same reason.
        *("ValueError", "TypeError", "AttributeError", "NameError", "ImportError", "LookupError"),
        *("AssertionError", "NotImplementedError", "KeyError", "IndexError", "ModuleNotFoundError"),
        *("ConfigError", "CatalogError", "SourceError", "ShardError", "WeightsError", "FeaturesError"),
        # The run itself has come to the conclusion that it cannot go on like this.
        *("NonFiniteLossError", "DivergedError", "FaultBudgetError", "DriftError", "CompilationError"),
        # Somebody wants it to end.
        *("StoppedError", "FencedOffError"),
    }
)


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception of a step is; to be called where it was caught."""
    inner = error
    while (below := _wrapped(inner)) is not None:
        inner = below
    if isinstance(inner, RayTaskError):
        reason = _first_of_traceback(str(inner))
    else:
        reason = f"{type(inner).__name__}: {inner}".removesuffix(": ")
    kinds = {reason.partition(":")[0].strip()}
    for known in (inner, getattr(inner, "cause", None)):
        kinds |= {cls.__name__ for cls in type(known).__mro__}
    return Failure(one_line(reason), traceback.format_exc(), is_permanent=bool(kinds & PERMANENT))


def lost_process(error: RayError) -> Failure:
    """The failure of a step whose process has gone."""
    lines = str(error).splitlines()
    # Ray lists what it knows of the process, indented, between its own words and the cause.
    told = [line for line in lines if not line.startswith("\t")]
    detail = " ".join(told[1:] or told).rpartition("Worker exit detail: ")[2]
    # What follows is what any process could have died of.
    detail = detail.partition(" Some common causes include")[0]
    if isinstance(error, OutOfMemoryError) or "low on memory" in detail:
        return Failure(one_line(f"its process was ended for want of memory: {detail}"), str(error))
    return Failure(one_line(f"its process died: {detail}"), str(error))


def _wrapped(error: BaseException) -> BaseException | None:
    """The error inside: Train's of the lowest rank that failed, or the one it was raised from."""
    by_rank = getattr(error, "worker_failures", None)
    if by_rank:
        return by_rank[min(by_rank)]
    return getattr(error, "controller_failure", None) or error.__cause__


def _first_of_traceback(text: str) -> str:
    """`Error: message` of the first error in a chain that another process printed; Ray gives no more."""
    first = text.partition("\n\nThe above exception was")[0].splitlines()
    frames = [number for number, line in enumerate(first) if line.startswith("  File ")]
    rest = first[frames[-1] + 1 :] if frames else first
    while len(rest) > 1 and rest[0].startswith("    "):  # the source line under its frame
        rest = rest[1:]
    kind, colon, message = "\n".join(rest).partition(": ")
    return f"{kind.rpartition('.')[2]}{colon}{message}"


def one_line(text: str) -> str:
    """The words of a text in one line of at most REASON_CHARACTERS."""
    joined = " ".join(text.split())
    return joined if len(joined) <= REASON_CHARACTERS else f"{joined[: REASON_CHARACTERS - 3]}..."
