"""A dated page of results: what was run, on what, when."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent


def today() -> str:
    """The date in a page's name and heading."""
    return datetime.date.today().isoformat()


def command(module: str) -> str:
    """How this was started."""
    return " ".join(["python -m", module, *sys.argv[1:]])


def hardware() -> str:
    """Cores, their name, how busy others keep them, and the versions that matter."""
    names = {line.split(":")[1].strip() for line in _cpu_info() if line.startswith("model name")}
    busy = os.getloadavg()[2]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("ray", "deepspeed", "torch"))
    name = f' ("{names.pop()}" in /proc/cpuinfo)' if names else ""
    return f"{os.cpu_count()} cores{name}, load average of the 15 minutes before {busy:.1f}; {libraries}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write(folder: str, text: str) -> Path:
    """benchmarks/<folder>/<today>.md; returns it."""
    path = HERE / folder / f"{today()}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def _cpu_info() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []
