"""torch.compile with a cache that outlives the run, and a clear word where nothing can be compiled."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import torch
from torch import nn


class CompilationError(RuntimeError):
    """What torch.compile needs is missing on this machine."""


def cache_folder() -> Path:
    """Where compiled kernels are kept: TORCHINDUCTOR_CACHE_DIR, or a folder in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or cache / "mae_dist" / "inductor")


def compile_in_place(model: nn.Module, device: torch.device) -> None:
    """Compile the model's forward and backward at its first call; names of parameters stay.

    Raises CompilationError if the device is a CPU and there is no C++ compiler.
    """
    if device.type == "cpu":
        _check_compiler()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_folder())
    # Shapes never change in a training, and code for fixed ones is faster.
    model.compile(dynamic=False)


def _check_compiler() -> None:
    # As torch chooses; it would find out in the middle of the first step, with a traceback of its own.
    named = shlex.split(os.environ.get("CXX", ""))
    compiler = named[0] if named else "clang++" if sys.platform == "darwin" else "g++"
    if shutil.which(compiler) is None:
        raise CompilationError(
            f"train.compile needs a C++ compiler on CPUs, and there is no {compiler!r} on this machine; "
            "install one, name it in the environment variable CXX, or set train.compile=false"
        )
