"""Running steps on a Ray cluster: side by side as far as its resources go, each in a task of its own.

    ready steps -> Ray tasks (bounded by the cluster's CPUs and GPUs) -> DONE.json each

One step that fails does not stop the others. What is done is not run again. SIGTERM of the driver lets the
trainings that run save and stop, and starts nothing more.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import ray
import torch
from ray._private.state import state
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mae_dist import storage
from mae_dist.orchestrate.shortage import ShortageWatch
from mae_dist.orchestrate.step import Demand, Step
from mae_dist.orchestrate.store import RunStore
from mae_dist.train.notices import announce_end

POLL_SECONDS = 0.5
ANSWER_SECONDS = 10.0
"""How long a cluster that is named may take to accept a connection."""
LOCAL_CPUS = 4
"""Logical CPUs of a local cluster at least: workers hold theirs while decode tasks need some beside them."""
LOCAL_OBJECT_STORE_BYTES = 1 << 30
REASON_CHARACTERS = 400
"""Of a failed step's reason; the traceback beside it is whole."""

log = logging.getLogger(__name__)


class ClusterError(RuntimeError):
    """The cluster cannot be reached, or can never hold what a run asks of it."""


@dataclass(slots=True)
class StepStatus:
    """Where a step stands; what the display shows."""

    step: Step
    state: str = "waiting"
    """waiting, running, done, failed, skipped (a needed step failed) or kept (done in an earlier job)."""
    reason: str | None = None
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    progress: dict[str, Any] | None = None
    """The last line of metrics of a training step."""


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
    now, most = _resources(), state.get_max_resources_from_cluster_config() or {}
    names = {"CPU", "GPU", *filter(_is_countable, (*now, *most))}
    return {name: max(now.get(name, 0.0), float(most.get(name, 0.0))) for name in sorted(names)}


def _resources() -> dict[str, float]:
    """What the nodes carry now that a recipe may ask for."""
    return {name: amount for name, amount in ray.cluster_resources().items() if _is_countable(name)}


def _is_countable(resource: str) -> bool:
    # Memory is in bytes, and "node:..." or "accelerator_type:..." are Ray's own names.
    return "memory" not in resource and ":" not in resource


def run_steps(
    steps: Sequence[Step], store: RunStore, *, show: Callable[[Sequence[StepStatus]], None]
) -> list[StepStatus]:
    """Run what is not done yet; returns how each step ended, in the order given.

    `show` is called about twice a second with the state of all steps.
    """
    statuses = {step.name: StepStatus(step) for step in steps}
    for status in statuses.values():
        if store.is_done(status.step) and not status.step.always:
            status.state = "kept"
    with _sigterm() as asked_to_end:
        _run_all(statuses, store, asked_to_end, show)
    return list(statuses.values())


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """Set by the first SIGTERM meanwhile; a second one does what the first would have done."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # others cannot listen to signals
        yield asked
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)
        asked.set()

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_all(
    statuses: dict[str, StepStatus],
    store: RunStore,
    asked_to_end: threading.Event,
    show: Callable[[Sequence[StepStatus]], None],
) -> None:
    running: dict[ray.ObjectRef, StepStatus] = {}
    shortage = ShortageWatch()
    is_ending = False
    while True:
        if asked_to_end.is_set() and not is_ending:
            is_ending = True
            log.warning("asked to end (SIGTERM): trainings save and stop")
            announce_end()
        for status in statuses.values():
            if is_ending and status.state == "waiting":
                status.state, status.reason = "skipped", "the job was asked to end; run it again to go on"
            _advance(status, statuses, running, store)
        for warning in shortage.look([s.step for s in running.values()], _resources(), time.monotonic()):
            log.warning("%s", warning)
        show(list(statuses.values()))
        if not running and not any(status.state == "waiting" for status in statuses.values()):
            return
        finished, _ = ray.wait(list(running), timeout=POLL_SECONDS) if running else ([], [])
        for reference in finished:
            _finish(running.pop(reference), reference, store)
        for status in running.values():
            status.seconds = time.monotonic() - status.started
            status.progress = _progress(store.output(status.step))


def _advance(
    status: StepStatus,
    statuses: dict[str, StepStatus],
    running: dict[ray.ObjectRef, StepStatus],
    store: RunStore,
) -> None:
    """Start a waiting step if everything before it has ended and there is room, or skip it."""
    if status.state != "waiting":
        return
    before = [statuses[step.name].state for step in (*status.step.needs, *status.step.after)]
    if any(state in ("waiting", "running") for state in before):
        return
    missing = [s.name for s in status.step.needs if statuses[s.name].state in ("failed", "skipped")]
    if missing:
        status.state, status.reason = "skipped", f"needs {', '.join(missing)}"
        return
    if running and not _has_room(status.step.demand, [other.step.demand for other in running.values()]):
        return
    store.begin(status.step)
    inputs = {step.name: store.output(step) for step in status.step.needs}
    status.state, status.started = "running", time.monotonic()
    # A step coordinates; its own tasks and workers hold the CPUs.
    # It stays where the job is: on another node it would be lost with that one.
    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(_run)
    running[remote.remote(status.step, store.output(status.step), inputs)] = status


def _run(step: Step, output: str, inputs: dict[str, str]) -> tuple[bool, Any]:
    """(True, summary), or (False, reason with the traceback): an exception of ours need not be picklable."""
    try:
        # Through JSON here, because a summary that cannot be written down must not end the whole job.
        return True, json.loads(json.dumps(dict(step.run(step.config, output, inputs))))
    except Exception as error:
        return False, {"reason": _reason(error), "traceback": traceback.format_exc()}


def _finish(status: StepStatus, reference: ray.ObjectRef, store: RunStore) -> None:
    status.seconds = time.monotonic() - status.started
    try:
        succeeded, result = ray.get(reference)
    except RayError as error:
        reason = _one_line(f"its process died: {error}")
        succeeded, result = False, {"reason": reason, "traceback": str(error)}
    trace = storage.join(store.output(status.step), "traceback.txt")
    if succeeded:
        status.state = "done"
        storage.delete(trace)  # of an earlier, failed attempt
        store.finish(status.step, seconds=status.seconds, summary=result)
        return
    status.state, status.reason = "failed", result["reason"]
    storage.write_bytes(trace, result["traceback"].encode())
    store.fail(status.step, seconds=status.seconds, reason=status.reason)


def _has_room(wanted: Demand, held: Sequence[Demand]) -> bool:
    total = _resources()
    cpus = wanted.cpus + sum(demand.cpus for demand in held)
    gpus = wanted.gpus + sum(demand.gpus for demand in held)
    return cpus <= total.get("CPU", 0) and gpus <= total.get("GPU", 0)


def _reason(error: BaseException) -> str:
    """One line that says what went wrong: the first error, under those that Ray or we wrapped around it."""
    inner = error
    while (below := _wrapped(inner)) is not None:
        inner = below
    if isinstance(inner, RayTaskError):
        return _one_line(_first_of_traceback(str(inner)))
    return _one_line(f"{type(inner).__name__}: {inner}".removesuffix(": "))


def _wrapped(error: BaseException) -> BaseException | None:
    """The error inside: Train's of the lowest rank that failed, or the one it was raised from."""
    by_rank = getattr(error, "worker_failures", None)
    if by_rank:
        return by_rank[min(by_rank)]
    return getattr(error, "controller_failure", None) or error.__cause__


def _first_of_traceback(text: str) -> str:
    """`Error: message` of the first error in a chain that another process printed; Ray gives no more."""
    first = text.partition("\n\nThe above exception was")[0].splitlines()
    frames = [number for number, line in enumerate(first) if line.startswith("  File ")]
    rest = first[frames[-1] + 1 :] if frames else first
    while len(rest) > 1 and rest[0].startswith("    "):  # the source line under its frame
        rest = rest[1:]
    kind, colon, message = "\n".join(rest).partition(": ")
    return f"{kind.rpartition('.')[2]}{colon}{message}"


def _one_line(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= REASON_CHARACTERS else f"{joined[: REASON_CHARACTERS - 3]}..."


def _progress(output: str) -> dict[str, Any] | None:
    uri = storage.join(output, "progress.json")
    return storage.read_json(uri) if storage.exists(uri) else None
