"""Any function as a test on several ranks: real processes, a real gloo group."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEADLINE_SECONDS = 120


def run_ranks(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(rank, *arguments)` returns on each rank; it must be importable, its result picklable."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        processes = [
            context.Process(target=_rank, args=(rank, world, store, results, function, arguments))
            for rank in range(world)
        ]
        for process in processes:
            process.start()
        try:
            found = dict(results.get(timeout=DEADLINE_SECONDS) for _ in range(world))
        finally:
            for process in processes:
                process.join(timeout=10)
                process.kill()
    for outcome in found.values():
        if isinstance(outcome, BaseException):
            raise outcome
    return [found[rank] for rank in range(world)]


def _rank(
    rank: int, world: int, store: str, results: Any, function: Callable[..., Any], arguments: Any
) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "DS_ACCELERATOR": "cpu"}
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        results.put((rank, function(rank, *arguments)))
    except BaseException as error:
        results.put((rank, error))
        raise
    finally:
        torch.distributed.destroy_process_group()
