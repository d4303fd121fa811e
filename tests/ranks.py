"""Any function as a test on several ranks: real processes, a real gloo group."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

DEADLINE_SECONDS = 300


class Ranks:
    """`world` processes in one gloo group that run one function after another.

    Starting them and importing what they need takes longer than most of what they are asked.
    """

    def __init__(self, world: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        store = str(Path(self._folder.name) / "store")
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(world)]
        self._pipes = [ours for ours, _ in pipes]
        self._processes = [
            context.Process(target=_serve, args=(rank, world, store, theirs))
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process, (_, theirs) in zip(self._processes, pipes, strict=True):
            process.start()
            theirs.close()
        self.is_whole = True
        """False once a function has failed on a rank: the others may wait for it in vain."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=10)
            process.kill()
        self._folder.cleanup()

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What `function(rank, *arguments)` returns on each rank, or the first error, raised here.

        The function must be importable, its result picklable.
        """
        for pipe in self._pipes:
            pipe.send((function, arguments))
        found: dict[int, Any] = {}
        while len(found) < len(self._pipes):
            waiting = [pipe for rank, pipe in enumerate(self._pipes) if rank not in found]
            ready = wait(waiting, timeout=DEADLINE_SECONDS)
            self.is_whole = bool(ready)
            assert ready, (
                f"no rank has answered within {DEADLINE_SECONDS} s; missing are all but {set(found)}"
            )
            for pipe in ready:
                rank, outcome = _answer(self._pipes, pipe)
                found[rank] = outcome
                if isinstance(outcome, BaseException):
                    self.is_whole = False
        for outcome in found.values():
            if isinstance(outcome, BaseException):
                raise outcome
        return [found[rank] for rank in range(len(self._pipes))]


def run_ranks(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`Ranks.run` in processes of its own."""
    with Ranks(world) as ranks:
        return ranks.run(function, *arguments)


def _answer(pipes: list[Connection], pipe: Any) -> tuple[int, Any]:
    rank = pipes.index(pipe)
    try:
        return rank, pipe.recv()
    except (EOFError, ConnectionResetError):
        return rank, RuntimeError(f"rank {rank} has ended without an answer")


def _serve(rank: int, world: int, store: str, requests: Connection) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "DS_ACCELERATOR": "cpu"}
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        while True:
            try:
                function, arguments = requests.recv()
            except EOFError:  # nothing more is asked
                return
            try:
                requests.send(function(rank, *arguments))
            except BaseException as error:
                requests.send(error)
                raise
    finally:
        torch.distributed.destroy_process_group()
