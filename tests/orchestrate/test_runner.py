"""Steps on a real cluster: what runs beside what, what a failure stops, and what a second job repeats."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mae_dist.orchestrate.step import Demand, Step
from mae_dist.orchestrate.store import RunStore

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

PATIENCE_SECONDS = 300.0


def job(name: str, run=None, *, config: Any = None, **options) -> Step:
    """A step that notes each execution in its folder, and then does `run`."""

    def noted(config, output: str, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("executed-*")))
        (folder / f"executed-{number}").touch()
        return {} if run is None else run(config, output, inputs)

    return Step(name=name, run=noted, config=config, identity=name, output=f"steps/{name}", **options)


def run_all(folder: Path, *steps: Step) -> dict[str, str]:
    """How each step ended."""
    from mae_dist.orchestrate import runner

    statuses = runner.run_steps(steps, RunStore(str(folder)), show=lambda statuses: None)
    return {status.step.name: status.state for status in statuses}


def executions(folder: Path, name: str) -> int:
    return len(list((folder / "steps" / name).glob("executed-*")))


def failed(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / "steps" / name / "FAILED.json").read_text())


def done(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / "steps" / name / "DONE.json").read_text())


def explode(config, output, inputs):
    raise ValueError("the sun went out\n  in galaxy.mp4")


def wait_for(*files: Path) -> bool:
    """Whether all are there before patience ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if all(file.exists() for file in files):
            return True
        time.sleep(0.02)
    return False


def test_a_step_that_raises_does_not_stop_the_others_and_leaves_its_reason(tmp_path):
    bad = job("bad", explode)
    ended = run_all(tmp_path, bad, job("good", lambda *_: {"top1": 3}), job("late", after=(bad,)))
    assert ended == {"bad": "failed", "good": "done", "late": "done"}
    record = failed(tmp_path, "bad")
    assert record["state"] == "failed"
    assert record["reason"] == "ValueError: the sun went out in galaxy.mp4"
    trace = (tmp_path / "steps" / "bad" / "traceback.txt").read_text()
    assert trace.startswith("Traceback (most recent call last)")
    assert "in explode" in trace
    assert done(tmp_path, "good")["summary"] == {"top1": 3}


def test_a_step_is_given_the_folders_of_those_it_needs_and_its_config(tmp_path):
    first = job("first")
    run_all(tmp_path, first, job("second", lambda *given: {"given": given}, config=7, needs=(first,)))
    steps = tmp_path / "steps"
    assert done(tmp_path, "second")["summary"]["given"] == [
        7,
        str(steps / "second"),
        {"first": str(steps / "first")},
    ]


def test_what_needs_a_failed_step_is_skipped_with_the_reason_and_so_is_what_needs_that(tmp_path):
    from mae_dist.orchestrate import runner

    bad = job("bad", explode)
    second = job("second", needs=(bad,))
    steps = [bad, second, job("third", needs=(second,))]
    statuses = runner.run_steps(steps, RunStore(str(tmp_path)), show=lambda statuses: None)
    assert [(s.state, s.reason) for s in statuses[1:]] == [
        ("skipped", "needs bad"),
        ("skipped", "needs second"),
    ]
    assert not executions(tmp_path, "second")
    assert not (tmp_path / "steps" / "second").exists()


def test_a_second_job_runs_only_what_is_missing(tmp_path):
    def fail_once(config, output, inputs):
        if len(list(Path(output).glob("executed-*"))) == 1:
            raise RuntimeError("not today")
        return {}

    first = job("first")
    flaky = job("flaky", fail_once, needs=(first,))
    last = job("last", needs=(flaky,))
    assert run_all(tmp_path, first, flaky, last) == {"first": "done", "flaky": "failed", "last": "skipped"}
    assert run_all(tmp_path, first, flaky, last) == {"first": "kept", "flaky": "done", "last": "done"}
    assert run_all(tmp_path, first, flaky, last) == {"first": "kept", "flaky": "kept", "last": "kept"}
    assert [executions(tmp_path, name) for name in ("first", "flaky", "last")] == [1, 2, 1]
    assert not (tmp_path / "steps" / "flaky" / "traceback.txt").exists()


def test_a_step_marked_always_runs_again(tmp_path):
    steps = [job("once"), job("report", always=True)]
    run_all(tmp_path, *steps)
    assert run_all(tmp_path, *steps) == {"once": "kept", "report": "done"}
    assert [executions(tmp_path, name) for name in ("once", "report")] == [1, 2]


def test_a_step_after_others_waits_for_them_even_where_they_fail(tmp_path):
    def slow(config, output, inputs):
        time.sleep(1.0)
        Path(output, "ended").touch()
        raise ValueError("late")

    def look(config, output, inputs):
        return {"had_ended": (Path(output).parent / "slow" / "ended").exists()}

    bad = job("slow", slow)
    assert run_all(tmp_path, bad, job("report", look, after=(bad,))) == {"slow": "failed", "report": "done"}
    assert done(tmp_path, "report")["summary"] == {"had_ended": True}


def test_steps_that_fit_together_run_side_by_side(tmp_path):
    """Each of the two ends only once it has seen the other running."""

    def meet(other: str, output: str, inputs):
        return {"met": wait_for(Path(output).parent / other / "executed-0")}

    a = job("a", meet, config="b", demand=Demand(cpus=3))
    b = job("b", meet, config="a", demand=Demand(cpus=3))
    run_all(tmp_path, a, b)
    assert [done(tmp_path, name)["summary"] for name in "ab"] == [{"met": True}] * 2


@pytest.mark.parametrize("demand", [Demand(cpus=4), Demand(cpus=1, gpus=1)], ids=["cpus", "gpus"])
def test_steps_that_do_not_fit_together_run_one_after_the_other(tmp_path, demand):
    """4 + 4 CPUs are more than the cluster's 6; it has no GPU, so a step with one runs only alone."""

    def note_times(config, output, inputs):
        started = time.monotonic()
        time.sleep(0.5)
        return {"times": [started, time.monotonic()]}

    run_all(tmp_path, *(job(name, note_times, demand=demand) for name in "abc"))
    times = sorted(done(tmp_path, name)["summary"]["times"] for name in "abc")
    assert all(ended <= started for (_, ended), (started, _) in pairwise(times))


def test_a_step_whose_process_is_killed_counts_as_failed_and_the_next_job_runs_it_again(tmp_path):
    def die_once(config, output, inputs):
        if len(list(Path(output).glob("executed-*"))) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {}

    steps = [job("dies", die_once), job("lives")]
    assert run_all(tmp_path, *steps) == {"dies": "failed", "lives": "done"}
    reason = failed(tmp_path, "dies")["reason"]
    assert reason.startswith("its process died: ")
    assert "\n" not in reason
    assert run_all(tmp_path, *steps) == {"dies": "done", "lives": "kept"}
    assert executions(tmp_path, "dies") == 2


def test_a_summary_that_cannot_be_written_fails_its_own_step_alone(tmp_path):
    ended = run_all(tmp_path, job("bad", lambda *_: {"files": {1, 2}}), job("good"))
    assert ended == {"bad": "failed", "good": "done"}
    assert failed(tmp_path, "bad")["reason"] == "TypeError: Object of type set is not JSON serializable"


def test_an_error_of_the_data_plane_is_named_and_not_what_was_wrapped_around_it(tmp_path):
    def decode(config, output, inputs):
        import ray

        def broken(row):
            raise FileNotFoundError("a.mp4: is gone\n  and b.mp4 too")

        ray.data.DataContext.get_current().enable_progress_bars = False
        return {"rows": ray.data.range(1).map(broken).take_all()}

    run_all(tmp_path, job("decode", decode))
    assert failed(tmp_path, "decode")["reason"] == "FileNotFoundError: a.mp4: is gone and b.mp4 too"


def test_an_error_of_a_training_worker_is_named_by_its_own_message(tmp_path):
    def fit(config, output, inputs):
        from ray.train import WorkerGroupError

        lost = WorkerGroupError("[Rank 1 Error Snippet]: ...", {1: RuntimeError("loss is nan at step 3")})
        raise RuntimeError(str(lost)) from lost

    run_all(tmp_path, job("fit", fit))
    assert failed(tmp_path, "fit")["reason"] == "RuntimeError: loss is nan at step 3"


def test_whoever_watches_sees_each_state_and_the_progress_of_a_running_step(tmp_path):
    from mae_dist.orchestrate import runner

    def train(config, output, inputs):
        Path(output, "progress.json").write_text('{"step": 3, "total_steps": 10}')
        assert wait_for(Path(output, "was-seen"))
        return {}

    seen: list[str] = []

    def show(statuses: Sequence[Any]) -> None:
        (status,) = statuses
        seen.append(status.state)
        if status.progress == {"step": 3, "total_steps": 10}:
            (tmp_path / "steps" / "train" / "was-seen").touch()

    (status,) = runner.run_steps([job("train", train)], RunStore(str(tmp_path)), show=show)
    assert (seen[0], seen[-1], status.state) == ("running", "done", "done")


def test_sigterm_of_the_driver_reaches_what_runs_and_starts_nothing_more(tmp_path):
    from ray.experimental import internal_kv

    from mae_dist.orchestrate import runner
    from mae_dist.train import notices

    def train(config, output, inputs):
        from mae_dist.train.notices import look
        from mae_dist.train.stopping import Request

        assert look() is Request.NONE
        Path(output, "runs").touch()
        assert wait_for(Path(output, "was-asked"))
        assert look() is Request.END
        return {}

    sent = []

    def show(statuses: Sequence[Any]) -> None:
        if not sent and (tmp_path / "steps" / "train" / "runs").exists():
            sent.append(os.kill(os.getpid(), signal.SIGTERM))
        if statuses[1].state == "skipped":
            (tmp_path / "steps" / "train" / "was-asked").touch()

    first = job("train", train)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ended = runner.run_steps([first, job("report", after=(first,))], RunStore(str(tmp_path)), show=show)
    finally:
        internal_kv._internal_kv_del(notices._key(), namespace=notices.NAMESPACE)
    assert signal.getsignal(signal.SIGTERM) is before
    assert [(status.state, status.reason) for status in ended] == [
        ("done", None),
        ("skipped", "the job was asked to end; run it again to go on"),
    ]


def test_a_training_that_is_cancelled_by_a_request_is_told_and_others_are_not(tmp_path):
    from mae_dist.orchestrate import runner

    def train(config, output, inputs):
        from mae_dist.train.notices import look
        from mae_dist.train.stopping import Request, StoppedError

        while look(output) is Request.NONE:
            time.sleep(0.05)
        assert look(f"{output}-other") is Request.NONE
        raise StoppedError("saved", Request.END)

    def show(statuses: Sequence[Any]) -> None:
        if statuses[0].state == "running" and not asked.exists():
            asked.parent.mkdir()
            asked.write_text('{"step": "train", "by": "ada@host"}')
            seen.append(asked.name)

    asked, seen = tmp_path / "requests" / "cancel-1.json", []
    steps = [job("train", train, saves=True), job("good")]
    ended = runner.run_steps(steps, RunStore(str(tmp_path)), show=lambda statuses: seen or show(statuses))
    assert [(status.state, status.reason) for status in ended] == [
        ("cancelled", "cancelled by ada@host"),
        ("done", None),
    ]
    assert "StoppedError: saved" in (tmp_path / "steps" / "train" / "log.txt").read_text()


def test_what_a_step_prints_is_in_its_log(tmp_path):
    def talk(config, output, inputs):
        os.system("echo from a process that it started")
        raise ValueError("bad")

    run_all(tmp_path, job("talks", talk))
    text = (tmp_path / "steps" / "talks" / "log.txt").read_text()
    assert "from a process that it started" in text
    assert "ValueError: bad" in text


def test_what_a_cluster_has_is_told_without_rays_own_names(tmp_path):
    from mae_dist.orchestrate import cluster

    assert cluster.capacity() == {"CPU": 6.0, "GPU": 0.0}


def test_a_step_that_waits_for_a_resource_that_no_node_carries_is_named(tmp_path, monkeypatch, caplog):
    from mae_dist.orchestrate import shortage

    monkeypatch.setattr(shortage, "PATIENCE_SECONDS", 0.0)
    assert run_all(tmp_path, job("probe", demand=Demand(custom={"decode": 2.0}))) == {"probe": "done"}
    assert caplog.messages[0].startswith(
        "probe cannot go on: no node of the cluster carries the resource 'decode', which decoding waits for; "
        "it has 6 CPU. Add such a node"
    )
