"""Where a number comes from: code, versions, hardware, data, command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from mae_dist import __version__

PACKAGES = ("torch", "ray", "deepspeed", "timm", "numpy", "pyarrow", "av")


def environment(*, cluster: dict[str, float], device: str) -> dict[str, Any]:
    """The part of environment.json that is known before anything runs."""
    return {
        "code": _code(),
        # Not by metadata: a cluster may run the package from a job's working directory.
        "versions": {"python": platform.python_version(), "mae_dist": __version__}
        | {name: version(name) for name in PACKAGES},
        "hardware": {
            "host": platform.node(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "device": device,
            "cluster": cluster,
        },
        "command": shlex.join(sys.argv),
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _code() -> dict[str, Any]:
    """Git revision of the package's checkout; unknown for an installed wheel."""
    root = Path(__file__).parents[2]
    try:
        revision = _git(root, "rev-parse", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return {"revision": "unknown", "dirty": None}
    return {"revision": revision, "dirty": dirty}


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()
