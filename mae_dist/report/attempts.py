"""What the driver says of a run's steps in steps.json, as plain data for report.json.

written           when it was written, in seconds since 1970. is_ended: whether the job had ended by then.
steps             [{"name", "state", "reason", "attempt", "seconds", "cpus", "gpus", "log"}] in the job's
                  order; state: waiting, running, retrying, done, kept (done by an earlier job), failed,
                  skipped (a need failed) or cancelled. log: below the run directory, or null.
attempts          [{"name", "attempt", "state", "reason", "started", "ended", "cpus", "gpus"}], every one of
                  all jobs of this run in the order they began, in seconds since 1970; of one that was
                  running when the file was written, ended is null. One that a killed driver could not
                  record is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_STEP = ("name", "state", "reason", "attempt", "seconds", "cpus", "gpus", "log")
_ATTEMPT = ("name", "attempt", "state", "reason", "started", "ended", "cpus", "gpus")
_UNDER_WAY = {
    "waiting": "not begun",
    "running": "running",
    "retrying": "waiting to be tried again",
}
_GIVEN_UP = {"skipped", "cancelled"}


def job(steps: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The fields listed at the top of this file, from the content of steps.json; None without one."""
    if steps is None:
        return None
    running = [step | {"ended": None} for step in steps["steps"] if _is_running(step)]
    attempts = sorted([*steps["history"], *running], key=lambda attempt: attempt["started"])
    return {
        "written": steps["written"],
        "is_ended": steps["ended"],
        "steps": [{name: step.get(name) for name in _STEP} for step in steps["steps"]],
        "attempts": [{name: attempt.get(name) for name in _ATTEMPT} for attempt in attempts],
    }


def why_unfinished(step: Mapping[str, Any] | None) -> str | None:
    """Why a step has neither succeeded nor failed, by its entry in steps.json; None if it has."""
    if step is None:
        return None
    state, reason = step["state"], step.get("reason")
    if state in _GIVEN_UP:
        return f"{state}: {reason}" if reason else state
    if state not in _UNDER_WAY:
        return None
    when = datetime.fromtimestamp(step["written"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{_UNDER_WAY[state]} at {when}" + (f"; before that: {reason}" if reason else "")


def _is_running(step: Mapping[str, Any]) -> bool:
    return step["state"] == "running" and step.get("started") is not None
