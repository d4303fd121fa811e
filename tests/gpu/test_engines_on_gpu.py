"""Every engine and ZeRO stage trains the losses of the torch engine on a GPU; one rank over NCCL."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu

KINDS = ["zero1", "zero2", "zero3", "zero1+optimizer"]
LOSS_TOLERANCE = 1e-5
STEPS = 5


def train(kinds: list[str], dtype_name: str | None, store: str, results) -> None:
    """Puts the losses of every engine into `results`, in a process that has a group to itself."""
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    import torch

    from tests.train.engines import LRS, global_batch, make_engine

    dtype = None if dtype_name is None else getattr(torch, dtype_name)
    torch.cuda.set_device(0)
    torch.distributed.init_process_group("nccl", init_method=f"file://{store}", rank=0, world_size=1)
    found = {}
    for kind in kinds:
        engine = make_engine(kind, dtype=dtype, device=torch.device("cuda"))
        found[kind] = []
        for step in range(STEPS):
            batch = {name: values.cuda() for name, values in global_batch(step).items()}
            out = engine(batch)
            engine.backward(out.loss)
            engine.step(LRS[step])
            found[kind].append(out.loss.item())
    results.put(found)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_all_stages_train_the_losses_of_the_torch_engine(dtype, gpu, tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    arguments = (["torch", *KINDS], dtype, str(tmp_path / "store"), results)
    process = context.Process(target=train, args=arguments, daemon=True)
    process.start()
    found = results.get(timeout=300)
    process.join(timeout=30)
    expected = found.pop("torch")
    for kind, losses in found.items():
        assert losses == pytest.approx(expected, rel=LOSS_TOLERANCE if dtype is None else 1e-2), kind
