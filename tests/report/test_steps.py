"""What steps.json becomes: attempts over time, reasons, and what they cost."""

import itertools

import pytest

from mae_dist.report.gantt import ROWS_SHOWN, axis_of

OOM = "out of memory in rank 1"


def attempt(start, end, **changes):
    known = {"name": "a", "attempt": 1, "state": "done", "reason": None}
    return known | {"started": start, "ended": end} | changes


@pytest.fixture
def eight_evaluations(fake_run):
    """Eight evaluations of which one raises, one runs out of memory, one hangs and one is cancelled."""
    endings = {
        "raises": ("failed", "ValueError: labels disagree"),
        "hungry": ("failed", OOM),
        "hangs": ("failed", "no progress for 600 s"),
        "unwanted": ("cancelled", "by user@host"),
    } | {f"fine{number}": ("done", None) for number in range(4)}
    fake_run.write_config(evaluations=tuple(endings), data={"catalog": "train"})
    steps, history = [], []
    for place, (name, (state, reason)) in enumerate(endings.items()):
        its = {"name": f"{name}-pretrained", "state": state, "reason": reason}
        tries = 3 if state == "failed" else 1
        steps.append(its | {"attempt": tries, "log": f"logs/{name}.log"})
        for number in range(tries):
            start = 100.0 * place + 20.0 * number
            history.append(its | {"attempt": number + 1, "started": start, "ended": start + 18.0})
        if state == "done":
            fake_run.write_evaluation(name, "pretrained", 40.0)
        elif state == "failed":
            fake_run.write_done(f"evaluations/{name}-pretrained", state="failed", reason=reason)
    fake_run.write_steps(steps, history)
    return fake_run


def test_every_evaluation_is_listed_with_its_state_and_reason(page_of, eight_evaluations):
    text = page_of(eight_evaluations).text
    reasons = ["ValueError: labels disagree", OOM, "no progress for 600 s", "by user@host"]
    for words in [*reasons, "logs/hangs.log"]:
        assert words in text
    assert text.count("fine") >= 4
    assert "Unwanted from pretrained weights : cancelled: by user@host" in text
    assert "hungry-pretrained, attempt 2 : failed after 18 s: out of memory in rank 1" in text


def test_every_attempt_is_drawn_in_the_colour_of_its_end(page_of, eight_evaluations):
    page_of(eight_evaluations)
    page = (eight_evaluations.root / "report/index.html").read_text()
    assert [page.count(f'class="bar {state}"') for state in ("done", "failed", "cancelled")] == [4, 9, 1]


def test_hours_are_those_reserved_and_lost_attempts_are_told_apart(report_of, fake_run):
    fake_run.write_config()
    history = [
        attempt(0.0, 1800.0, name="pretrain", gpus=8.0, cpus=16.0, state="failed", reason="node lost"),
        attempt(1800.0, 5400.0, name="pretrain", attempt=2, gpus=8.0, cpus=16.0),
        attempt(5400.0, 7200.0, name="knn-pretrained", cpus=4.0),
    ]
    fake_run.write_steps([{"name": "pretrain", "output": ""}, {"name": "knn-pretrained"}], history)
    cost = report_of(fake_run)["cost"]
    assert (cost["cpu_hours"], cost["gpu_hours"]) == (pytest.approx(26.0), pytest.approx(12.0))
    assert (cost["lost_cpu_hours"], cost["lost_gpu_hours"]) == (pytest.approx(8.0), pytest.approx(4.0))
    assert cost["by_step"][0] == {
        "name": "pretrain",
        "attempts": 2,
        "seconds": pytest.approx(5400.0),
        "cpu_hours": pytest.approx(24.0),
        "gpu_hours": pytest.approx(12.0),
    }


def test_the_time_at_work_counts_attempts_side_by_side_once(report_of, fake_run):
    fake_run.write_config()
    history = [attempt(0.0, 60.0), attempt(30.0, 90.0, name="b"), attempt(1000.0, 1010.0)]
    fake_run.write_steps([{"name": "a"}, {"name": "b"}], history)
    cost = report_of(fake_run)["cost"]
    assert cost["busy_seconds"] == pytest.approx(100.0)
    assert cost["wall_seconds"] == pytest.approx(1010.0)


def test_what_still_runs_counts_up_to_when_the_driver_last_wrote(report_of, fake_run):
    fake_run.write_config()
    running = {"name": "pretrain", "output": "", "state": "running", "started": 0.0}
    fake_run.write_steps([running], [], written=1800.0)
    report = report_of(fake_run)
    assert report["job"]["attempts"][0]["ended"] is None
    assert report["cost"]["cpu_hours"] == pytest.approx(1.0)
    assert "running at 2025-10-09" in report["unfinished"][0]["reason"]


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        ("waiting", None, "not begun at 2025-10-09 09:53 UTC"),
        ("retrying", OOM, f"waiting to be tried again at 2025-10-09 09:53 UTC; before that: {OOM}"),
        ("skipped", "needs features", "skipped: needs features"),
        ("cancelled", None, "cancelled"),
    ],
)
def test_an_evaluation_without_a_result_says_where_it_stands(report_of, fake_run, state, reason, words):
    fake_run.write_config(evaluations=("knn",))
    fake_run.write_steps([{"name": "knn-pretrained", "state": state, "reason": reason}], [])
    side = report_of(fake_run)["evaluations"][0]["pretrained"]
    assert (side["state"], side["reason"]) == ("missing", words)


def test_a_step_that_failed_before_it_wrote_anything_has_failed(report_of, fake_run):
    fake_run.write_config(evaluations=("knn",))
    fake_run.write_steps([{"name": "knn-pretrained", "state": "failed", "reason": "its process died"}], [])
    side = report_of(fake_run)["evaluations"][0]["pretrained"]
    assert (side["state"], side["reason"]) == ("failed", "its process died")


def test_a_run_from_before_steps_json_has_a_page_without_steps(finished_page, report_of, finished_run):
    assert "steps" not in finished_page.ids
    report = report_of(finished_run)
    assert report["job"] is None
    assert report["cost"] is None


def test_a_job_that_has_not_begun_anything_has_a_page(page_of, fake_run):
    fake_run.write_config()
    fake_run.write_steps([{"name": "pretrain", "output": "", "state": "waiting"}], [])
    assert "pretrain waiting" in page_of(fake_run).text


def test_moments_keep_their_order_on_the_axis_and_an_idle_night_is_cut_short():
    attempts = [attempt(0.0, 3600.0), attempt(3600.0, 7200.0), attempt(80_000.0, 87_200.0)]
    axis = axis_of(attempts, 87_200.0)
    assert [round(axis.place(moment)) for moment in (0.0, 3600.0, 7200.0, 80_000.0, 87_200.0)] == [
        0,
        24,
        49,
        51,
        100,
    ]
    assert axis.cuts == [(7200.0, 80_000.0)]


@pytest.mark.parametrize("seconds", [0.0, 0.4, 61.0, 7200.0, 40 * 86_400.0, 4000 * 86_400.0])
def test_ticks_are_few_and_apart_whatever_the_length(seconds):
    places = [place for place, _ in axis_of([attempt(5.0, 5.0 + seconds)], 5.0).ticks()]
    assert places[0] == 0.0
    assert all(after - before >= 15.0 for before, after in itertools.pairwise(places))
    assert len(places) <= 7


def test_probes_of_many_checkpoints_share_a_row_and_more_rows_than_fit_are_counted(page_of, fake_run):
    fake_run.write_config()
    names = [f"probe-pretrained@{step}" for step in range(50)]
    names += [f"s{number}" for number in range(ROWS_SHOWN)]
    history = [attempt(float(place), place + 1.0, name=name) for place, name in enumerate(names)]
    fake_run.write_steps([{"name": name} for name in names], history)
    text = page_of(fake_run).text
    assert "probe-pretrained@ ×50" in text
    assert "1 more row: see report.json" in text


def test_what_was_idle_between_two_jobs_is_told(page_of, fake_run):
    fake_run.write_config()
    fake_run.write_steps([{"name": "a"}], [attempt(0.0, 60.0), attempt(7260.0, 7320.0)])
    assert "Nothing ran for 2 h, cut short here." in page_of(fake_run).text


def test_an_evaluation_on_another_test_set_that_has_not_begun_is_missing_too(report_of, fake_run):
    fake_run.write_config(evaluations=("finetune",))
    skipped = {
        "name": "finetune.sketch-pretrained",
        "state": "skipped",
        "reason": "needs finetune-pretrained",
    }
    fake_run.write_steps([skipped], [])
    report = report_of(fake_run)
    wanted = {
        "what": "finetune.sketch from pretrained weights",
        "reason": "skipped: needs finetune-pretrained",
    }
    assert wanted in report["unfinished"]
