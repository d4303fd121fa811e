"""What of an evaluation runs in other processes of the cluster, through Ray.

    plan_blocks: decode tasks -> actors that hold a frozen model, a GPU each where there are some

Reading and decoding go on in tasks of their own, so that their number follows the CPUs that are free and not
the number of models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import ray
import torch
from ray.data import ActorPoolStrategy
from ray.exceptions import RayTaskError

from mae_dist.data.batch import StreamSpec
from mae_dist.data.mix import Samples
from mae_dist.data.plan import plan_blocks
from mae_dist.evaluate.extraction import Answer, Embedder, Extraction
from mae_dist.evaluate.features import Record

Result = TypeVar("Result")

Work = Callable[[int, Mapping[str, np.ndarray]], Any]
"""Takes a block's number and its arrays; what it returns can be written as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """What models and decode tasks ask of the cluster."""

    workers: int
    """Models side by side, at most; fewer where decoding would have no CPU left."""
    cpus_per_worker: float
    use_gpu: bool
    cpus_per_task: float
    """CPUs of one decode task."""
    decode_resource: str | None = None


def embedded(
    extraction: Extraction, samples: Samples, placement: Placement
) -> Callable[[Collection[int]], Iterator[Answer]]:
    """The blocks of an extraction, for `extract`: embedded on the cluster, each as it is finished."""

    def embed(skip: Collection[int]) -> Iterator[Answer]:
        make = partial(Embedder, extraction)
        for said, faults in over_blocks(make, extraction.stream, samples, placement, skip=skip):
            yield Record(*said), faults

    return embed


def over_blocks(
    make: Callable[..., Work],
    stream: StreamSpec,
    samples: Samples,
    placement: Placement,
    *,
    skip: Collection[int] = (),
) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """What `make(device=...)` says of every block of one pass, with its faults, each as it is finished.

    `make` is called once in each process and takes a block's number and arrays from then on.
    """
    plan = plan_blocks(
        stream,
        samples,
        cpus_per_task=placement.cpus_per_task,
        resource=placement.decode_resource,
        skip=skip,
    )
    rows = plan.map_batches(
        _Actor,
        batch_size=1,
        batch_format="numpy",
        fn_constructor_args=(make, placement),
        compute=ActorPoolStrategy(size=num_encoders(placement, ray.cluster_resources().get("CPU", 0.0))),
        num_cpus=placement.cpus_per_worker,
        num_gpus=1 if placement.use_gpu else 0,
        # Ray fuses tasks into actors that ask for exactly the same, and decoding would then wait for the
        # model (Ray 2.60). A megabyte of memory, which decode tasks do not ask for, keeps them apart.
        memory=1 << 20,
    )
    answers: Iterable[Any] = rows.iter_batches(batch_size=1, batch_format="numpy", prefetch_batches=1)
    for row in answers:
        yield json.loads(row["said"][0]), json.loads(row["faults"][0])


def num_encoders(placement: Placement, cluster_cpus: float) -> int:
    """Models that leave room for one decode task at least; one in any case, for the cluster may grow."""
    free = cluster_cpus - placement.cpus_per_task
    return max(1, min(placement.workers, int(free / placement.cpus_per_worker)))


def on_worker(work: Callable[[torch.device], Result], placement: Placement) -> Result:
    """What `work(device)` returns, called in a process that holds a worker's CPUs and its GPU.

    The first exception in `work` is raised as it is.
    """

    def call() -> Result:
        return work(_device(placement))

    task = ray.remote(num_cpus=placement.cpus_per_worker, num_gpus=1 if placement.use_gpu else 0)(call)
    try:
        return ray.get(task.remote())
    except RayTaskError as error:
        raise error.cause from error


class _Actor:
    """A `Work` as Ray Data calls it: one row, a block, at a time."""

    def __init__(self, make: Callable[..., Work], placement: Placement) -> None:
        self._work = make(device=_device(placement))

    def __call__(self, row: dict[str, np.ndarray]) -> dict[str, Any]:
        block = int(row["block"][0])
        columns = {name: row[name][0] for name in ("clips", "label", "sample", "epoch", "counted")}
        said = self._work(block, columns)
        return {"said": np.array([json.dumps(said)], dtype=object), "faults": row["faults"]}


def _device(placement: Placement) -> torch.device:
    # One thread per CPU that Ray reserved: more would fight with the decode tasks beside us.
    torch.set_num_threads(max(1, int(placement.cpus_per_worker)))
    return torch.device("cuda" if placement.use_gpu else "cpu")
