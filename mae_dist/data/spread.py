"""One function over many items on every node that has a CPU free.

Plain Ray tasks, one per item, and not Ray Data: the items are independent, so nothing has to be kept in order
or passed on as blocks, and a result may be any object. What is waiting or running is bounded, whatever the
number of items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError

Item = TypeVar("Item")
Result = TypeVar("Result")

_TASKS_PER_SLOT = 2
"""While one runs, the next already waits; tasks that wait also tell an autoscaler to add nodes."""


def spread(
    work: Callable[[Item], Result], items: Sequence[Item], *, cpus_per_task: float = 1.0
) -> Iterator[Result]:
    """The results of `work(item)`, as they are finished, in any order.

    One task per item, which reserves `cpus_per_task` CPUs: make an item worth a tenth of a second or more.
    Of a node that is lost its items are done again elsewhere, so `work` must bear being called twice. Ray
    has to be initialised (`orchestrate.cluster.connect`).

    The first exception in `work` is raised here as it is, caused by Ray's, which holds the traceback. Then,
    and where the caller stops early or is interrupted, no more tasks are begun; the few that the cluster has
    already run to their end, or end with this process.
    """
    assert ray.is_initialized(), "connect to Ray first; a task would start one with settings of its own"
    shared = ray.put(work)
    task = ray.remote(num_cpus=cpus_per_task, scheduling_strategy="SPREAD")(_call)
    # Tasks are never cancelled: in Ray 2.60 `ray.cancel` of one that is about to end aborts this process now
    # and then ("Tried to complete task that was not pending"; ray-project/ray#54798 mended half of it).
    pending: set[ray.ObjectRef] = set()
    for item in items:
        if len(pending) >= _TASKS_PER_SLOT * _slots(cpus_per_task):
            yield _take(pending)
        pending.add(task.remote(shared, item))
    while pending:
        yield _take(pending)


def _call(work: Callable[[Any], Any], item: Any) -> Any:
    return work(item)


def _slots(cpus_per_task: float) -> int:
    """Tasks that the cluster, as large as it is now, can run at once; at least one, for it may yet grow."""
    return max(1, int(ray.cluster_resources().get("CPU", 0.0) / cpus_per_task))


def _take(pending: set[ray.ObjectRef]) -> Any:
    """The result of the first one to finish, which is taken out of `pending`."""
    [done], _ = ray.wait(list(pending), num_returns=1)
    pending.remove(done)
    try:
        return ray.get(done)
    except RayTaskError as error:
        # Ray's own error has its text for a message; the cause is what was raised there, type and all.
        raise error.cause from error
