"""Processes that wait on the nodes of a training for its next worker group.

    a group trains -> each node starts as many processes as it has workers -> it dies -> the next takes them

Ray starts processes when they are needed, and a training stands still for a second or two meanwhile. Ray 2.60
has the request in its nodes and nobody in Python who makes it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated import common_pb2, node_manager_pb2, runtime_environment_pb2
from ray.core.generated.node_manager_pb2_grpc import NodeManagerServiceStub
from ray.train.v2._internal.execution.callback import WorkerGroupCallback

DELAY_SECONDS = 3.0
"""After the start of a training, which has the processors to itself until then."""
KEPT_SECONDS = 3600.0
"""How long a node keeps a spare process that nobody takes; then others are asked for."""
NUM_COORDINATORS = 3
"""Processes of Ray beside the workers of every group: they synchronise it and hand out its data."""
ANSWER_SECONDS = 5.0

log = logging.getLogger(__name__)

# Their classes are made when they are imported, where a type checker does not see them.
_common: Any = common_pb2
_node_manager: Any = node_manager_pb2
_runtime_environment: Any = runtime_environment_pb2


class Spares(WorkerGroupCallback):
    """Asks for spare processes when a worker group has begun to train."""

    def __init__(self) -> None:
        self._group: Any = None
        self._due = 0.0

    def after_worker_group_training_start(self, worker_group: Any) -> None:
        """The group that the next spares are like."""
        self._group, self._due = worker_group, time.monotonic() + DELAY_SECONDS

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        """Ask when it is time: every worker its own node, and the controller the one it is on."""
        if self._group is None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + KEPT_SECONDS
        for worker in self._group.get_workers():
            worker.actor.execute.remote(start_spares, 1)
        start_spares(NUM_COORDINATORS)

    def before_worker_group_shutdown(self, worker_group: Any) -> None:
        """Nothing more for this group."""
        self._group = None


def start_spares(count: int) -> None:
    """Let this node start `count` processes with the environment of this one, for this job.

    Nothing depends on it: where the node does not answer, processes are started when they are needed.
    """
    context = ray.get_runtime_context()
    request = _node_manager.PrestartWorkersRequest(
        language=_common.Language.PYTHON,
        job_id=bytes.fromhex(context.get_job_id()),
        runtime_env_info=_runtime_environment.RuntimeEnvInfo(
            serialized_runtime_env=context.get_runtime_env_string()
        ),
        keep_alive_duration_secs=int(KEPT_SECONDS),
        num_workers=count,
    )
    [node] = [node for node in ray.nodes() if node["NodeID"] == context.get_node_id()]
    try:
        channel = init_grpc_channel(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}")
        with contextlib.closing(channel):
            NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=ANSWER_SECONDS)
    except grpc.RpcError as error:
        log.warning("no spare processes: %s", error)
