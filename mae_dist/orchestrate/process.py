"""Attempts at steps on a Ray cluster, each in a process that can be ended at any moment.

    step -> an actor on the driver's node, which holds no CPU -> the step's own tasks and workers
    it ends well -> its process takes the next step, for which it need not import everything once more
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
from collections.abc import Callable, Mapping, Sequence
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
from mae_dist.train import notices

CLEAN_SECONDS = 30.0
"""How long after the end of an attempt its placement groups are looked for; Ray notices deaths in seconds."""
LOOK_SECONDS = 1.0
MOST_IDLE = 2
"""Processes kept for steps to come; each holds the memory of what it has imported."""
STACKS = signal.SIGUSR1
"""Makes the process of a step write its stacks, even while it hangs in C code."""

log = logging.getLogger(__name__)


class RayLauncher:
    """Attempts on the cluster that this process has joined."""

    def __init__(self) -> None:
        self._clean_until = self._looked = float("-inf")
        self._idle: list[_Process] = []

    def nodes(self) -> Sequence[Mapping[str, float]]:
        """What each node carries."""
        return cluster.nodes()

    def start(self, step: Step, output: str, inputs: Mapping[str, str], *, log_file: str) -> RayAttempt:
        """Start a step in a process that it has for itself until it ends."""
        while self._idle:
            process = self._idle.pop()
            if process.is_there():
                break
        else:
            process = _Process()
        return RayAttempt(process, step, output, inputs, log_file=log_file, keep=self._keep)

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
        notices.announce_end(output)

    def limit_growth(self, output: str, most: int | None) -> None:
        """Make a training that has grown further save, and go on with fewer workers."""
        notices.limit_growth(output, most)

    def _keep(self, process: _Process) -> None:
        if len(self._idle) < MOST_IDLE:
            self._idle.append(process)
        else:
            process.kill()


class RayAttempt:
    """One step in one process, which is handed to `keep` if the step ends well."""

    def __init__(
        self,
        process: _Process,
        step: Step,
        output: str,
        inputs: Mapping[str, str],
        *,
        log_file: str,
        keep: Callable[[_Process], None],
    ) -> None:
        self._process, self._keep = process, keep
        self.result = process.run(step, output, inputs, log_file)

    def has_begun(self) -> bool:
        """Whether the process has come up and said who it is."""
        return self._process.has_come_up()

    def outcome(self) -> Mapping[str, Any] | Failure:
        """The summary or the failure, and the end of a process that brought none."""
        try:
            result = ray.get(self.result)
        except RayTaskError as error:  # before the step began: its code is not there, for example
            result = failure_of(error)
        except RayError as error:
            result = lost_process(error)
        except BaseException:
            self.kill()
            raise
        if isinstance(result, Failure):
            self.kill()
        else:
            self._keep(self._process)
        return result

    def write_stacks(self) -> None:
        """Make the process write its stacks into its log."""
        self._process.signal(STACKS)

    def kill(self, *, hard: bool = False) -> None:
        """End the process by Ray, or `hard` by the system, of which Ray warns the user as of a crash."""
        self._process.kill()
        if hard:
            self._process.signal(signal.SIGKILL)


class _Process:
    """The driver's end of a process that runs one step at a time."""

    def __init__(self) -> None:
        # It stays where the job is: on another node it would be lost with that one.
        here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._actor = _StepActor.options(scheduling_strategy=here).remote()
        self._is_killed = False
        # Asked for first, because nothing else is answered while a step runs.
        self._identity = self._actor.identity.remote()

    def run(self, step: Step, output: str, inputs: Mapping[str, str], log_file: str) -> ray.ObjectRef:
        """Run a step; what comes is its summary, or a Failure."""
        return self._actor.run.remote(step, output, dict(inputs), log_file)

    def has_come_up(self) -> bool:
        """Whether it has said who it is."""
        known, _ = ray.wait([self._identity], timeout=0)
        return bool(known)

    def is_there(self) -> bool:
        """Whether it has come up and not ended since, nor is about to."""
        return not self._is_killed and self._found() is not None

    def signal(self, number: int) -> None:
        """Send a signal, if it is there."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if process := self._found():
                process.send_signal(number)

    def kill(self) -> None:
        """Let Ray end it."""
        self._is_killed = True
        with contextlib.suppress(ActorHandleNotFoundError):
            ray.kill(self._actor)

    def _found(self) -> psutil.Process | None:
        try:
            if not self.has_come_up():
                return None
            pid, started = ray.get(self._identity)
            process = psutil.Process(pid)
            return process if process.create_time() == started else None
        except (RayError, psutil.NoSuchProcess):
            return None


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
            _remove_own_groups()


def _print_into(file: str) -> None:
    """Let everything that this process prints, C libraries included, go to the end of a file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    faulthandler.register(STACKS, file=2, all_threads=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", force=True)


_StepActor: Any = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)(_StepProcess)


def remove_orphaned_groups() -> int:
    """Take back the placement groups of this job whose creator has died; returns how many.

    Ray 2.60 keeps a group of an actor until both the actor and its job have ended.
    """
    orphans = [group for group in _groups_of_actors() if group.creator_actor_dead]
    for group in orphans:
        log.info("taking back the placement group %s of a process that died", group.placement_group_id.hex())
        _remove(group)
    return len(orphans)


def _remove_own_groups() -> None:
    """Take back what a step of this process has left, as this process may go on to the next one."""
    own = ray.get_runtime_context().get_actor_id()
    for group in _groups_of_actors():
        if group.creator_actor_id.hex() == own:
            _remove(group)


def _groups_of_actors() -> list[Any]:
    """The placement groups of this job that are there and were created by an actor."""
    job = ray.get_runtime_context().get_job_id()
    table = state._connect_and_get_accessor().get_placement_group_table()
    return [
        group
        for group in map(PlacementGroupTableData.FromString, table)
        if group.creator_job_id.hex() == job
        # Without an actor as its creator a group has none that could be dead, and says so by ones.
        and any(byte != 0xFF for byte in group.creator_actor_id)
        and group.state != PlacementGroupTableData.REMOVED
    ]


def _remove(group: Any) -> None:
    remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
