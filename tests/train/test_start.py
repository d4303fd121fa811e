"""What a worker does not load when it starts: every restart pays for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import torch
import torch.distributed as dist
from mae_dist.train.zero import ZeroEngine

dist.init_process_group("gloo", init_method=sys.argv[1], rank=0, world_size=1)
ZeroEngine(
    torch.nn.Linear(2, 2), lambda module: torch.optim.AdamW(module.parameters()), stage=1, micro_batch=1,
    accumulation=1, clip_grad_norm=None, autocast_dtype=None, offload="none",
)
print("torch._inductor.compile_fx" in sys.modules)
"""


@pytest.mark.slow
def test_deepspeed_starts_without_the_compiler(tmp_path):
    command = [sys.executable, "-c", PROGRAM, f"file://{tmp_path}/store"]
    ended = subprocess.run(command, env=os.environ | {"LOCAL_RANK": "0"}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "False"
