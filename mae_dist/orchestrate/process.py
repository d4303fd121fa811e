"""Attempts at steps on a Ray cluster, each in a process that can be ended at any moment.

    step -> an actor on the driver's node, which holds no CPU -> the step's own tasks and workers
    its process ends, however -> Ray ends what actors and tasks it owns; placement groups are taken back here

A step coordinates; what it starts on the cluster holds the CPUs and GPUs. Its process prints into its log.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import ray
from ray._private.state import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]
from ray.exceptions import ActorHandleNotFoundError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mae_dist.orchestrate import cluster
from mae_dist.orchestrate.attempt import Attempt, Failure
from mae_dist.orchestrate.failure import failure_of, lost_process
from mae_dist.orchestrate.step import Step
from mae_dist.train.notices import announce_end

CLEAN_SECONDS = 30.0
"""How long after the end of an attempt its placement groups are looked for; Ray notices deaths in seconds."""
LOOK_SECONDS = 1.0
STACKS = signal.SIGUSR1
"""Makes the process of a step write its stacks, even while it hangs in C code."""

log = logging.getLogger(__name__)


class RayLauncher:
    """Attempts on the cluster that this process has joined."""

    def __init__(self) -> None:
        self._clean_until = self._looked = float("-inf")

    def nodes(self) -> Sequence[Mapping[str, float]]:
        """What each node carries."""
        return cluster.nodes()

    def start(self, step: Step, output: str, inputs: Mapping[str, str], *, log_file: str) -> RayAttempt:
        """Start a step in a process of its own."""
        return RayAttempt(step, output, inputs, log_file)

    def wait(self, attempts: Sequence[Attempt], seconds: float) -> list[RayAttempt]:
        """Attempts that have ended; what they leave behind is taken back meanwhile."""
        running = {attempt.result: attempt for attempt in attempts if isinstance(attempt, RayAttempt)}
        if running:
            ended, _ = ray.wait(list(running), num_returns=1, timeout=seconds)
        else:
            time.sleep(seconds)
            ended = []
        now = time.monotonic()
        if ended:
            self._clean_until = now + CLEAN_SECONDS
        if self._looked + LOOK_SECONDS < now < self._clean_until:
            self._looked = now
            remove_orphaned_groups()
        return [running[reference] for reference in ended]

    def ask_to_stop(self, output: str | None) -> None:
        """Ask trainings to save and stop."""
        announce_end(output)


class RayAttempt:
    """One process of one step."""

    def __init__(self, step: Step, output: str, inputs: Mapping[str, str], log_file: str) -> None:
        # It stays where the job is: on another node it would be lost with that one.
        here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._actor = _Process.options(scheduling_strategy=here).remote()
        # Asked for first, because nothing else is answered while the step runs.
        self._identity = self._actor.identity.remote()
        self.result = self._actor.run.remote(step, output, dict(inputs), log_file)

    def has_begun(self) -> bool:
        """Whether the process has come up and said who it is."""
        known, _ = ray.wait([self._identity], timeout=0)
        return bool(known)

    def outcome(self) -> Mapping[str, Any] | Failure:
        """The summary or the failure, and the end of the process."""
        try:
            return ray.get(self.result)
        except RayTaskError as error:  # before the step began: its code is not there, for example
            return failure_of(error)
        except RayError as error:
            return lost_process(error)
        finally:
            self.kill()

    def write_stacks(self) -> None:
        """Make the process write its stacks into its log."""
        self._signal(STACKS)

    def kill(self, *, hard: bool = False) -> None:
        """End the process by Ray, or `hard` by the system, of which Ray warns the user as of a crash."""
        with contextlib.suppress(ActorHandleNotFoundError):
            ray.kill(self._actor)
        if hard:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        try:
            if not self.has_begun():
                return
            pid, started = ray.get(self._identity)
            process = psutil.Process(pid)
            if process.create_time() == started:
                process.send_signal(number)
        except (RayError, psutil.NoSuchProcess):
            pass  # it has ended


class _StepProcess:
    """The process of an attempt, as an actor."""

    def identity(self) -> tuple[int, float]:
        """Process id, and since when."""
        return os.getpid(), psutil.Process().create_time()

    def run(
        self, step: Step, output: str, inputs: dict[str, str], log_file: str
    ) -> Mapping[str, Any] | Failure:
        """The step's summary, or why there is none: an exception of ours need not be picklable."""
        _print_into(log_file)
        try:
            # Through JSON here, because a summary that cannot be written down must not end the whole job.
            return json.loads(json.dumps(dict(step.run(step.config, output, inputs))))
        except (Exception, SystemExit) as error:
            return failure_of(error)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def _print_into(file: str) -> None:
    """Let everything that this process prints, C libraries included, go to the end of a file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    faulthandler.register(STACKS, file=2, all_threads=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", force=True)


_Process: Any = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)(_StepProcess)


def remove_orphaned_groups() -> int:
    """Take back the placement groups of this job whose creator has died; returns how many.

    Ray 2.60 keeps a group of an actor until both the actor and its job have ended.
    """
    job = ray.get_runtime_context().get_job_id()
    accessor = state._connect_and_get_accessor()
    removed = 0
    for data in accessor.get_placement_group_table():
        group = PlacementGroupTableData.FromString(data)
        is_ours = group.creator_job_id.hex() == job
        # Without an actor as its creator a group has none that could be dead, and says so by ones.
        has_creator = any(byte != 0xFF for byte in group.creator_actor_id)
        is_there = group.state != PlacementGroupTableData.REMOVED
        if is_ours and has_creator and group.creator_actor_dead and is_there:
            log.info(
                "taking back the placement group %s of a process that died", group.placement_group_id.hex()
            )
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
            removed += 1
    return removed
