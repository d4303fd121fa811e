"""Running the steps of a job: each in a process for itself, side by side as far as there is room.

    ready steps -> admission.py: which start now -> attempts (process.py) -> DONE.json each
    elastic steps -> as large as the others let them be
    an attempt that fails, takes too long or loses its process -> again, after a pause, a few times
    SIGTERM, RUN/requests -> trainings save and stop, the rest is ended

One step that fails does not stop the others. What is done is not run again. Nothing here knows Ray.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mae_dist import storage
from mae_dist.orchestrate.admission import Resources, claim_of, decide, growth_limits
from mae_dist.orchestrate.attempt import Attempt, Failure, Launcher
from mae_dist.orchestrate.logs import StepLog
from mae_dist.orchestrate.process import RayLauncher
from mae_dist.orchestrate.requests import Cancellation, sigterm_noted, take_requests
from mae_dist.orchestrate.shortage import ShortageWatch, total_of
from mae_dist.orchestrate.state import WITHOUT_RESULT, State, StateFile, StepStatus, longest_data_wait
from mae_dist.orchestrate.step import SPARE, Step
from mae_dist.orchestrate.store import RunStore
from mae_dist.storage.fence import FencedOffError

POLL_SECONDS = 0.5
LOOK_SECONDS = 2.0
"""Between two looks at what changes more slowly: progress, requests."""
FIND_SECONDS = 10.0
"""Between two questions for steps that were not known before."""
DATA_WAIT_SHARE = 0.05
"""Of a training's time; while it waits for data longer than that, nothing is started on spare capacity."""
HINDERED_SHARE = 0.20
"""The same, for what runs there to make room. Far above the other: what has begun should come to an end."""
GRACE_SECONDS = 120.0
"""For a training that is cancelled, to save and stop; then it is ended."""
KILL_SECONDS = 5.0
"""From the moment that Ray is asked to end a process until the system is."""
SIDE_BY_SIDE = 16
END_REASON = "the job was asked to end; run it again to go on"

Show = Callable[[Sequence[StepStatus]], None]
Find = Callable[[], Sequence[Step]]

log = logging.getLogger(__name__)


def run_steps(
    steps: Sequence[Step],
    store: RunStore,
    *,
    show: Show,
    most: int = SIDE_BY_SIDE,
    find: Find = lambda: (),
    launcher: Launcher | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[StepStatus]:
    """Run what is not done yet, at most `most` side by side; returns how each step ended, in the order given.

    `find` is asked now and then for steps that were not known before, such as those that follow a checkpoint,
    and may repeat itself. `show` is called about twice a second with the state of all steps. Without a
    `launcher` steps run on the cluster that this process has joined.
    """
    runner = _Runner(steps, store, launcher or RayLauncher(), find, most=most, clock=clock)
    with sigterm_noted() as asked_to_end:
        return runner.run(asked_to_end, show)


@dataclass(slots=True)
class _Running:
    """An attempt that runs, and what is to become of it where we end it."""

    status: StepStatus
    attempt: Attempt
    log: StepLog
    started: float
    begun: float = float("inf")
    """When its process was there; a busy machine may take long to start it."""
    becomes: tuple[State, str | None] | None = None
    """State and reason of a step that we end; failed: it took too long, waiting: it makes room."""
    kill_at: float = float("inf")
    is_killed: bool = False


class _Runner:
    """All steps of one job, and what runs of them."""

    def __init__(
        self,
        steps: Sequence[Step],
        store: RunStore,
        launcher: Launcher,
        find: Find,
        *,
        most: int,
        clock: Callable[[], float],
    ) -> None:
        self._store, self._launcher, self._find = store, launcher, find
        self._most, self._clock = most, clock
        self._file = StateFile(store)
        self._statuses: dict[str, StepStatus] = {}
        self._add(steps)
        self._running: dict[str, _Running] = {}
        self._due: dict[str, float] = {}
        """When the next attempt of a step that is retried may start."""
        self._limits: dict[str, int] = {}
        """How far elastic steps that run may grow, where others keep them small."""
        self._shortage = ShortageWatch()
        self._looked = self._asked = float("-inf")
        self._end: tuple[State, str] | None = None
        """State and reason of whatever has not started yet, once the job is to end."""

    def run(self, asked_to_end: threading.Event, show: Show) -> list[StepStatus]:
        """Until every step has ended."""
        try:
            while True:
                if asked_to_end.is_set() and self._end is None:
                    log.warning("asked to end (SIGTERM): trainings save and stop")
                    self._end_all("skipped", END_REASON)
                self._look()
                self._ask_for_more()
                self._advance()
                statuses = list(self._statuses.values())
                is_over = all(status.has_ended for status in statuses)
                self._file.write(statuses, ended=is_over)
                show(statuses)
                if is_over:
                    return statuses
                self._wait()
        except BaseException as error:
            self._abandon(error)
            raise

    def _add(self, steps: Sequence[Step]) -> None:
        """Take over steps, in front of those that come after all others."""
        for step in steps:
            status = self._statuses[step.name] = StepStatus(step)
            if self._store.is_done(step) and not step.always:
                status.state = "kept"
                self._file.recall(status)
        self._statuses = dict(sorted(self._statuses.items(), key=lambda item: item[1].step.always))

    def _wait(self) -> None:
        """For an attempt to end, but not for long; then for what is overdue."""
        by_attempt = {id(running.attempt): running for running in self._running.values()}
        attempts = [running.attempt for running in self._running.values()]
        for attempt in self._launcher.wait(attempts, POLL_SECONDS):
            self._conclude(by_attempt[id(attempt)])
        now = self._clock()
        for running in self._running.values():
            running.status.seconds = now - running.started
            if now >= running.kill_at:
                running.attempt.kill(hard=running.is_killed)
                running.is_killed, running.kill_at = True, now + KILL_SECONDS
            if running.begun > now and running.attempt.has_begun():
                running.begun = now
            timeout = running.status.step.patience.timeout_seconds
            if running.becomes is None and timeout is not None and now >= running.begun + timeout:
                # Its stacks are written meanwhile.
                running.attempt.write_stacks()
                reason = f"took longer than {timeout:g} s, its timeout; log.txt says where it stood"
                running.becomes, running.kill_at = ("failed", reason), now + POLL_SECONDS

    def _look(self) -> None:
        """At what others say: the steps by their progress, users by their requests."""
        now = self._clock()
        if now < self._looked + LOOK_SECONDS:
            return
        self._looked = now
        for cancellation in take_requests(self._store.uri):
            self._cancel(cancellation)
        for running in self._running.values():
            running.status.progress = self._store.progress(running.status.step)
            running.log.follow(running.status.progress)
            running.log.publish()

    def _ask_for_more(self) -> None:
        """For steps that were not known before; also when one has ended, as it may have been the last."""
        now = self._clock()
        if self._end is None and now >= self._asked + FIND_SECONDS:
            self._asked = now
            self._add([step for step in self._find() if step.name not in self._statuses])

    # What ends steps before their time.

    def _cancel(self, asked: Cancellation) -> None:
        reason = f"cancelled by {asked.by}"
        log.warning("%s: %s", asked.step or "the whole run", reason)
        if asked.step is None:
            self._end_all("cancelled", reason)
            for running in self._running.values():
                running.becomes = ("cancelled", reason)
                running.kill_at = self._grace(running)
        elif (status := self._statuses.get(asked.step)) is None:
            log.warning("there is no step %s; there are %s", asked.step, ", ".join(self._statuses))
        elif (running := self._running.get(asked.step)) is not None:
            running.becomes, running.kill_at = ("cancelled", reason), self._grace(running)
            if status.step.saves:
                self._launcher.ask_to_stop(self._store.output(status.step))
        elif not status.has_ended:
            status.state, status.reason = "cancelled", reason

    def _grace(self, running: _Running) -> float:
        return self._clock() + (GRACE_SECONDS if running.status.step.saves else 0.0)

    def _end_all(self, state: State, reason: str) -> None:
        """Start nothing more, and let the trainings that run save and stop."""
        self._end = (state, reason)
        self._launcher.ask_to_stop(None)

    def _abandon(self, error: BaseException) -> None:
        """End what runs, because this driver ends at once; say so, if that can still be said."""
        for running in self._running.values():
            running.attempt.kill()
            running.status.state, running.status.ended = "cancelled", time.time()
            running.status.reason = f"the driver ended: {type(error).__name__}"
            self._file.remember(running.status, "cancelled", running.status.reason)
        with contextlib.suppress(storage.StorageError, FencedOffError):
            self._file.write(list(self._statuses.values()), ended=True)

    # What starts steps, and what follows.

    def _advance(self) -> None:
        """Skip what cannot run, start what can, make room for what is more important."""
        for status in self._statuses.values():
            self._give_up(status)
        ready = [status for status in self._statuses.values() if self._is_ready(status)]
        if not ready and not self._running:
            return
        nodes = self._launcher.nodes()
        held = [claim_of(running.status.step) for running in self._running.values()]
        decision = decide([claim_of(status.step) for status in ready], held, nodes, most=self._most)
        for name in decision.start:
            self._start(self._statuses[name])
        for name in decision.stop:
            self._make_room(self._running[name], "a more important step")
        if longest_data_wait(self._statuses.values(), untold=0.0) > HINDERED_SHARE:
            for running in self._running.values():
                if running.status.step.priority <= SPARE:
                    self._make_room(running, "a training that waits for its data")
        self._share_growth(nodes)
        steps = [running.status.step for running in self._running.values()]
        for warning in self._shortage.look(steps, total_of(nodes), self._clock()):
            log.warning("%s", warning)

    def _give_up(self, status: StepStatus) -> None:
        """Skip a step that can never run in this job."""
        if status.state == "waiting":
            names = [needed.name for needed in status.step.needs]
            missing = [name for name in names if self._statuses[name].state in WITHOUT_RESULT]
            if self._end is not None:
                status.state, status.reason = self._end
            elif missing:
                status.state, status.reason = "skipped", f"needs {', '.join(missing)}"
        elif status.state == "retrying" and self._end is not None:
            status.state = "failed"

    def _is_ready(self, status: StepStatus) -> bool:
        """Whether a step waits for nothing but room."""
        if status.state == "retrying":
            return self._clock() >= self._due[status.step.name]
        if status.state != "waiting":
            return False
        # What is spare on paper might decode for a training that waits for its data.
        is_spare = status.step.priority <= SPARE
        if is_spare and longest_data_wait(self._statuses.values(), untold=1.0) > DATA_WAIT_SHARE:
            return False
        before = {other.name for other in (*status.step.needs, *status.step.after)}
        if status.step.always:
            before |= {name for name, other in self._statuses.items() if not other.step.always}
        return all(self._statuses[name].has_ended for name in before)

    def _share_growth(self, nodes: Sequence[Resources]) -> None:
        """Tell elastic steps how far they may grow, so that the others that have started find room."""
        held = [claim_of(running.status.step) for running in self._running.values()]
        limits = growth_limits(held, nodes)
        for name in limits.keys() | self._limits.keys():
            if limits.get(name) != self._limits.get(name):
                output = self._store.output(self._statuses[name].step)
                self._launcher.limit_growth(output, limits.get(name))
        self._limits = limits

    def _start(self, status: StepStatus) -> None:
        step = status.step
        self._store.begin(step)
        output = self._store.output(step)
        inputs = {needed.name: self._store.output(needed) for needed in step.needs}
        status.state, status.reason, status.progress = "running", None, None
        status.attempt += 1
        status.started, status.ended, status.seconds = time.time(), None, 0.0
        its_log = StepLog(storage.join(self._store.uri, step.log))
        its_log.say(f"---- {step.name}, attempt {status.attempt}")
        attempt = self._launcher.start(step, output, inputs, log_file=str(its_log.file))
        self._running[step.name] = _Running(status, attempt, its_log, self._clock())

    def _make_room(self, running: _Running, whom: str) -> None:
        if running.becomes is None:
            log.info("%s makes room for %s", running.status.step.name, whom)
            running.becomes, running.kill_at = ("waiting", f"made room for {whom}"), self._clock()

    def _conclude(self, running: _Running) -> None:
        """Note how an attempt has ended, and what follows from that."""
        self._asked = float("-inf")
        status, step = running.status, running.status.step
        del self._running[step.name]
        status.ended, status.seconds = time.time(), self._clock() - running.started
        outcome = running.attempt.outcome()
        trace = storage.join(self._store.output(step), "traceback.txt")
        if not isinstance(outcome, Failure):
            storage.delete(trace)  # of an earlier, failed attempt
            self._store.finish(step, seconds=status.seconds, summary=outcome)
            state, reason = "done", None
            status.state = "done"
        else:
            state, reason = running.becomes or ("failed", outcome.reason)
            running.log.say(f"---- {state}: {reason}\n{outcome.traceback}")
            if state == "waiting":
                state, status.state = "cancelled", "waiting"
            else:
                storage.write_bytes(trace, outcome.traceback.encode())
                self._store.fail(step, seconds=status.seconds, reason=reason or outcome.reason)
                status.state, status.reason = state, reason
        self._file.remember(status, state, reason)
        if status.state == "waiting":
            status.attempt -= 1  # it has not failed
        if status.state == "failed":
            is_permanent = isinstance(outcome, Failure) and outcome.is_permanent and running.becomes is None
            self._retry(status, is_permanent=is_permanent)
        running.log.publish(at_once=True)

    def _retry(self, status: StepStatus, *, is_permanent: bool) -> None:
        """Let a step that has failed wait for its next attempt, if it has one left and that could help."""
        patience = status.step.patience
        if is_permanent or self._end is not None or status.attempt > patience.retries:
            return
        pause = patience.pause(status.attempt)
        self._due[status.step.name] = self._clock() + pause
        status.state = "retrying"
        log.warning(
            "%s failed, and starts again in %g s (attempt %d of %d): %s",
            *(status.step.name, pause, status.attempt + 1, patience.retries + 1, status.reason),
        )
