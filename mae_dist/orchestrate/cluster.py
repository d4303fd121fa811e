"""The Ray cluster that a job runs on: joining it or starting one, and what its nodes carry."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

import ray
import torch
from ray._private.state import state

ANSWER_SECONDS = 10.0
"""How long a cluster that is named may take to accept a connection."""
LOCAL_CPUS = 4
"""Logical CPUs of a local cluster at least: workers hold theirs while decode tasks need some beside them."""
LOCAL_OBJECT_STORE_BYTES = 1 << 30


class ClusterError(RuntimeError):
    """The cluster cannot be reached, or can never hold what a run asks of it."""


def is_cluster_running() -> bool:
    """Whether this process belongs to a cluster: inside a Ray job, or with RAY_ADDRESS set."""
    return ray.is_initialized() or bool(os.environ.get("RAY_ADDRESS"))


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names, or start a local one for the life of this process.

    Raises ClusterError if the named cluster does not answer.
    """
    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = os.environ.get("RAY_ADDRESS")
    if address:
        try:
            _check_answer(address)
            ray.init(address=address, **quiet)
        except (OSError, RuntimeError) as error:
            raise ClusterError(
                f"RAY_ADDRESS={address}: no Ray cluster answers there ({error}); start one, correct the "
                "address or unset RAY_ADDRESS to run on this machine alone"
            ) from error
        return
    # Ray 2.60 writes a token into the home directory unless told; a cluster on loopback needs none.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    available = local_capacity()
    ray.init(
        address="local",
        num_cpus=int(available["CPU"]),
        num_gpus=int(available["GPU"]),
        object_store_memory=LOCAL_OBJECT_STORE_BYTES,
        # Train asks it about its own controller.
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        _system_config={
            # By default Ray warns the user of every few processes that its own Train and Data start.
            "worker_maximum_startup_concurrency": 16,
            # By default Ray ends a process after a second without work when there are more than CPUs; the
            # next decode task then spends seconds on starting and importing again.
            "idle_worker_killing_time_threshold_ms": 60_000,
        },
        **quiet,
    )


def _check_answer(address: str) -> None:
    """Raise OSError where nobody listens at host:port; Ray alone tries for minutes before it says so."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()


def local_capacity() -> dict[str, float]:
    """What a cluster on this machine alone has: all GPUs, and at least LOCAL_CPUS logical CPUs."""
    return {"CPU": max(LOCAL_CPUS, os.cpu_count() or 1), "GPU": torch.cuda.device_count()}


def capacity() -> dict[str, float]:
    """CPUs, GPUs and custom resources that the connected cluster has, or can grow to where it scales by
    itself."""
    now, most = resources(), state.get_max_resources_from_cluster_config() or {}
    names = {"CPU", "GPU", *filter(_is_countable, (*now, *most))}
    return {name: max(now.get(name, 0.0), float(most.get(name, 0.0))) for name in sorted(names)}


def resources() -> dict[str, float]:
    """What the nodes carry now that a recipe may ask for."""
    return {name: amount for name, amount in ray.cluster_resources().items() if _is_countable(name)}


def nodes() -> list[dict[str, float]]:
    """The same of each node that lives and is not about to go."""
    leaving = state.get_draining_nodes()
    return [
        {name: amount for name, amount in node["Resources"].items() if _is_countable(name)}
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in leaving
    ]


def _is_countable(resource: str) -> bool:
    # Memory is in bytes, and "node:..." or "accelerator_type:..." are Ray's own names.
    return "memory" not in resource and ":" not in resource
