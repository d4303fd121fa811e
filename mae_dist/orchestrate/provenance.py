"""Where a number comes from: code, versions, hardware, data, command."""

from __future__ import annotations

import hashlib
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


def tree_id(folder: Path) -> str:
    """Git's name for the contents of a folder, worked out without Git: 40 hex digits, those that
    `git rev-parse COMMIT:FOLDER` prints for the commits that hold the same files.

    Source: the format of tree and blob objects (Git's documentation, gitformat-pack and hash-object). What
    running the code leaves behind (__pycache__) does not count.
    """
    entries: list[tuple[bytes, bytes]] = []
    for path in folder.iterdir():
        name = os.fsencode(path.name)
        if path.is_dir():
            if path.name != "__pycache__":
                # Git sorts a folder as if its name ended in a slash.
                entries.append((name + b"/", b"40000 " + name + b"\0" + bytes.fromhex(tree_id(path))))
        else:
            mode = b"100755 " if os.access(path, os.X_OK) else b"100644 "
            entries.append((name, mode + name + b"\0" + _object_id(b"blob", path.read_bytes())))
    return _object_id(b"tree", b"".join(entry for _, entry in sorted(entries))).hex()


def _object_id(kind: bytes, contents: bytes) -> bytes:
    # SHA-1 is what Git calls its objects by; nothing here is protected by it.
    return hashlib.sha1(kind + b" %d\0" % len(contents) + contents, usedforsecurity=False).digest()


def _code() -> dict[str, Any]:
    """Git revision of the package's checkout, unknown without one, as in a working directory that Ray has
    uploaded; and the tree that the package is in any case."""
    package = Path(__file__).parents[1]
    code: dict[str, Any] = {"revision": "unknown", "dirty": None, "tree": tree_id(package)}
    try:
        code["revision"] = _git(package, "rev-parse", "HEAD")
        code["dirty"] = bool(_git(package, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        pass
    return code


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()
