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
from mae_dist.train.adamw import AdamW
from mae_dist.train.engine import StepOutput
from mae_dist.train.zero import ZeroEngine

class Task(torch.nn.Linear):
    def forward(self, batch):
        return StepOutput(super().forward(batch["clips"]).sum(), {})

dist.init_process_group("gloo", init_method=sys.argv[1], rank=0, world_size=1)
engine = ZeroEngine(
    Task(2, 2), lambda module: AdamW(module.parameters(), fused=True), stage=1, micro_batch=1, accumulation=1,
    clip_grad_norm=1.0, autocast_dtype=None, ema=0.9,
)
engine.backward(engine({"clips": torch.ones(1, 2)}).loss)
engine.step(0.1)
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
def test_deepspeed_starts_and_steps_without_the_compiler(tmp_path):
    command = [sys.executable, "-c", PROGRAM, f"file://{tmp_path}/store"]
    ended = subprocess.run(command, env=os.environ | {"LOCAL_RANK": "0"}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "False"
