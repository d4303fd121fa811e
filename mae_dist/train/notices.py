"""What the cluster tells a training: its node is about to go away, the whole job is about to end, or others
need what it has grown into.

Ray has no call that waits for any of these, so a thread of every worker reads the cluster's records now and
then, and for the last one the controller of the training does.
"""

from __future__ import annotations

import logging
import threading
from typing import Self

import ray
from ray._private.state import state
from ray.experimental import internal_kv

from mae_dist.train.stopping import Request, StopRequest

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
NAMESPACE = "mae_dist"


def announce_end(output: str | None = None) -> None:
    """Tell trainings of this job to save and stop, all or those in the folder `output`; from its driver."""
    internal_kv._internal_kv_put(_key(output), b"1", namespace=NAMESPACE)


def limit_growth(output: str, most: int | None) -> None:
    """Tell the training in the folder `output` how many workers beyond its least it may have.

    From its driver. None: as many as find room.
    """
    if most is None:
        internal_kv._internal_kv_del(_growth_key(output), namespace=NAMESPACE)
    else:
        internal_kv._internal_kv_put(_growth_key(output), str(most).encode(), namespace=NAMESPACE)


def growth_limit(output: str) -> int | None:
    """What `limit_growth` has told the training in this folder."""
    told = internal_kv._internal_kv_get(_growth_key(output), namespace=NAMESPACE)
    return None if told is None else int(told)


def look(output: str | None = None) -> Request:
    """What this process, which trains in the folder `output`, should do now by the cluster's records."""
    for whom in {None, output}:
        if internal_kv._internal_kv_exists(_key(whom), namespace=NAMESPACE):
            return Request.END
    draining = state.get_draining_nodes()
    return Request.MOVE if ray.get_runtime_context().get_node_id() in draining else Request.NONE


def _key(output: str | None = None) -> str:
    job = f"end of job {ray.get_runtime_context().get_job_id()}"
    return job if output is None else f"{job} in {output}"


def _growth_key(output: str) -> str:
    return f"growth of job {ray.get_runtime_context().get_job_id()} in {output}"


class NoticeReader:
    """Passes notices on to a training in the folder `output` while it runs."""

    def __init__(self, stop: StopRequest, output: str | None = None) -> None:
        self._stop, self._output = stop, output
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, name="notices", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                request = look(self._output)
            except Exception:  # whatever keeps the cluster from answering keeps no training from going on
                log.warning("the cluster's notices cannot be read now", exc_info=True)
                continue
            if request is not Request.NONE:
                self._stop.ask(request)
