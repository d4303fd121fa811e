"""The commands that give the same run again, as plain data for report.json: [{"what", "command"}]."""

from __future__ import annotations

import shlex
from typing import Any

from mae_dist import storage
from mae_dist.report.run_files import RunFiles


def reproduction(run: RunFiles) -> list[dict[str, Any]]:
    """What to type, in order; a step whose command is not known is left out."""
    code = run.environment.get("code") or {}
    steps = []
    if code.get("revision") not in (None, "unknown"):
        changed = "; it had uncommitted changes, which are not recorded" if code.get("dirty") else ""
        checkout = shlex.join(["git", "checkout", str(code["revision"])])
        steps.append({"what": f"The code{changed}", "command": checkout})
    elif code.get("tree"):
        found = f'test "$(git rev-parse "$c:mae_dist")" = {shlex.quote(str(code["tree"]))} && echo "$c"'
        search = f"for c in $(git rev-list --all); do {found}; done"
        steps.append({"what": "The commits that hold the code (the run had no checkout)", "command": search})
    if run.environment.get("command"):
        steps.append({"what": "The run, as it was started", "command": str(run.environment["command"])})
    config = storage.join(run.uri, "config.yaml")
    if "://" in run.uri:
        config = "config.yaml"
    again = shlex.join(["mae-dist", "run", config, "--storage", "ELSEWHERE"])
    what = "The same from the config that lies in the run directory, whatever has become of the recipe since"
    steps.append({"what": what, "command": again})
    steps.append({"what": "This page", "command": shlex.join(["mae-dist", "report", run.uri])})
    return steps
