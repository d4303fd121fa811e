"""A cluster of three nodes, and jobs of small steps that go wrong on it, in a process of its own.

    python -m tests.faults.job_cluster FOLDER [KILLS]     leaves FOLDER/told.json
    python -m tests.faults.job_cluster --drive FOLDER     one driver of the job that is killed so many times

Nothing here trains: a step takes CPUs by actors, as a training does by its workers.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group, placement_group_table

from mae_dist import storage
from mae_dist.orchestrate.runner import run_steps
from mae_dist.orchestrate.step import SPARE, Demand, Patience, Step
from mae_dist.orchestrate.store import DriverLock, RunStore

NODE_CPUS = 4
DEADLINE_SECONDS = 240.0
PATIENCE = Patience(retries=2, backoff_seconds=0.2)
HANG_SECONDS = 5.0
"""Timeout of a step that hangs."""
BAD = ("raises", "memory", "hangs", "killed")
CHAIN_STEPS = 8
LINK_SECONDS = 1.0


@ray.remote(num_cpus=1)
class Holder:
    """Takes a CPU for as long as it lives."""

    def ping(self) -> None:
        """Answers once it has the CPU."""


def hold(number: int) -> list[Any]:
    """So many holders, taken one by one: half of them is of no use, and is not given back."""
    holders = [Holder.remote() for _ in range(number)]
    for holder in holders:
        ray.get(holder.ping.remote())
    return holders


@contextlib.contextmanager
def taking(output: str) -> Iterator[None]:
    """Note an execution, and hold a CPU by an actor meanwhile, and one by a placement group for good."""
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"executed-{len(list(folder.glob('executed-*')))}").touch()
    ray.get(placement_group([{"CPU": 1}]).ready())
    holders = hold(1)
    yield
    del holders


def fine(config: Any, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """A step that ends well."""
    with taking(output):
        return {"fine": True}


def raises(config: Any, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """A step that raises."""
    with taking(output):
        raise RuntimeError("the sun went out")


def memory(config: Any, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """A step that is refused memory by the system, as its address space is bounded."""
    with taking(output):
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (256 << 20), before[1]))
        try:
            return {"bytes": len(bytearray(4 << 30))}
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)


def hangs(config: Any, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """A step that does not end, and does not listen."""
    with taking(output):
        threading.Event().wait()
    return {}


def killed(config: Any, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """A step whose process is killed."""
    with taking(output):
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


def gang(config: int, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """A step that is of use only once it has all of its CPUs."""
    began = time.time()
    holders = hold(config)
    for holder in holders:
        ray.kill(holder)
    return {"began": began, "ended": time.time()}


def link(config: Any, output: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """A step that notes that it ran, and takes long enough to be killed."""
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"executed-{len(list(folder.glob('executed-*')))}").touch()
    time.sleep(LINK_SECONDS)
    return {}


def step(name: str, run: Callable[..., Any], **options: Any) -> Step:
    """With two retries."""
    given: dict[str, Any] = {"config": None, "demand": Demand(cpus=2), "patience": PATIENCE} | options
    return Step(name=name, run=run, identity=name, output=f"steps/{name}", **given)


def evaluations(*, retries: int) -> list[Step]:
    """Eight, of which four go wrong in four ways."""
    good = [step(f"fine-{number}", fine) for number in range(4)]
    steps = [
        *(good[0], step("hangs", hangs), good[1], step("raises", raises)),
        *(good[2], step("memory", memory), step("killed", killed), good[3]),
    ]
    patience = Patience(retries=retries, backoff_seconds=0.2)
    impatient = replace(patience, timeout_seconds=HANG_SECONDS)
    return [replace(s, patience=impatient if s.name == "hangs" else patience) for s in steps]


def run_all(run: Path, steps: list[Step]) -> dict[str, Any]:
    """The states and reasons of a job's steps, and how often each was executed and attempted by now."""
    ended = run_steps(steps, RunStore(str(run)), show=lambda statuses: None)
    return {
        "states": {status.step.name: status.state for status in ended},
        "reasons": {status.step.name: status.reason for status in ended},
        "executions": {s.name: len(list((run / s.output).glob("executed-*"))) for s in steps},
        "attempts": Counter(entry["name"] for entry in _state(run)["history"]),
    }


def wait_for(what: Callable[[], Any]) -> Any:
    """What `what` returns, as soon as that is true."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := what()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
    return found


def all_is_given_back() -> bool:
    """Whether no CPU and no placement group is held."""
    free, groups = ray.available_resources(), placement_group_table()
    is_free = free.get("CPU", 0.0) == ray.cluster_resources()["CPU"]
    return is_free and all(group["state"] == "REMOVED" for group in groups.values())


def tell_fan_out(folder: Path) -> dict[str, Any]:
    """Eight steps of which four fail, and the same job again."""
    first = run_all(folder / "fan-out", evaluations(retries=2))
    # The job is over, but its driver and so its processes go on, as between two steps of a longer one.
    from mae_dist.orchestrate.process import remove_orphaned_groups

    is_free = wait_for(lambda: (remove_orphaned_groups(), all_is_given_back())[1])
    log = (folder / "fan-out/steps/hangs/log.txt").read_text()
    second = run_all(folder / "fan-out", evaluations(retries=0))
    return {"first": first, "second": second, "log of hangs": log, "given back": is_free}


def tell_gangs(folder: Path) -> dict[str, Any]:
    """Two steps that each want more than half of all CPUs, one of them in front, and a spare one."""
    parts: tuple[Mapping[str, float], ...] = ({"CPU": 1.0},) * (NODE_CPUS + 1)
    demand = Demand(cpus=NODE_CPUS + 1, parts=parts)
    steps = [
        step("spare", gang, config=NODE_CPUS + 1, demand=demand, priority=SPARE),
        step("later", gang, config=NODE_CPUS + 1, demand=demand),
        step("sooner", gang, config=NODE_CPUS + 1, demand=demand, priority=20),
    ]
    told = run_all(folder / "gangs", steps)
    records = {s.name: storage.read_json(f"{folder}/gangs/{s.output}/DONE.json")["summary"] for s in steps}
    return told | {"times": records}


def chain() -> list[Step]:
    """Steps in two rows, in which each needs the one before."""
    steps: list[Step] = []
    for number in range(CHAIN_STEPS):
        needs = (steps[number - 2],) if number >= 2 else ()
        steps.append(step(f"link-{number}", link, needs=needs, demand=Demand(cpus=1)))
    return steps


def drive(folder: Path) -> None:
    """Be a driver of the chain."""
    from mae_dist.orchestrate import cluster

    with DriverLock(str(folder)) as lock:
        cluster.connect()
        run_steps(chain(), RunStore(str(folder), fence=lock.fence), show=lambda statuses: None)


def tell_kills(folder: Path, address: str, *, kills: int, seed: int = 0) -> dict[str, Any]:
    """A driver that is killed so many times at random moments, and given again each time."""
    rng, run = random.Random(seed), folder / "killed"
    environment = os.environ | {"RAY_ADDRESS": address}
    command = [sys.executable, "-m", "tests.faults.job_cluster", "--drive", str(run)]
    known: dict[str, int] = {}
    again: list[str] = []
    for kill in range(kills + 1):
        driver = subprocess.Popen(command, env=environment)
        if kill < kills:
            wanted = max(len(known), round((kill + 1) * CHAIN_STEPS / (kills + 2)))
            mark = run / "drivers" / f"{kill + 1:06d}.json"
            wait_for(lambda wanted=wanted, mark=mark: mark.exists() and len(_done(run)) >= wanted)
            time.sleep(rng.uniform(0.0, LINK_SECONDS))
            driver.kill()
        status = driver.wait()
        counts = {file.parent.name: len(list(file.parent.glob("executed-*"))) for file in _done(run)}
        again += [name for name, count in known.items() if counts[name] != count]
        known |= {name: count for name, count in counts.items() if name not in known}
    return {"again": again, "done": sorted(known), "last status": status, "state": _state(run)}


def _done(run: Path) -> list[Path]:
    return sorted(run.glob("steps/*/DONE.json"))


def _state(run: Path) -> dict[str, Any]:
    return json.loads((run / "steps.json").read_text())


def main(folder: Path, kills: int) -> None:
    """Run all stories and write down what happened."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 128 << 20, "include_dashboard": False},
    )
    told: dict[str, Any] = {}
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=NODE_CPUS, num_gpus=0, object_store_memory=128 << 20)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        told["fan-out"] = tell_fan_out(folder)
        told["gangs"] = tell_gangs(folder)
        told["kills"] = tell_kills(folder, cluster.address, kills=kills)
    finally:
        storage.write_json(str(folder / "told.json"), told)
        with contextlib.suppress(Exception):
            ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    if sys.argv[1] == "--drive":
        drive(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
