"""The files a training writes about itself."""

from __future__ import annotations

import json

import pytest
import torch

from mae_dist.storage.fence import Fence, FencedOffError
from mae_dist.train.metrics import Meters, RunLog, describe

LINE = {
    "step": 10,
    "epoch": 0.5,
    "loss": 0.5,
    "lr": 1e-3,
    "grad_norm": 1.0,
    "samples_per_second": 100.0,
    "seconds": 3.0,
    "eta_seconds": 75.0,
    "faults": 0,
    "data_wait_share": 0.015,
    "decoded_per_second": 100.0,
    "decode_cpu_ms": 40.0,
    "decode_cpus": 4.0,
    "read_bytes_per_second": 2e6,
    "read_share": 0.1,
    "read_use": 0.9,
    "storage_requests": 100,
    "storage_retries": 0,
    "transport_share": 0.1,
    "copy_share": 0.0,
}


def run_log(folder, *, resumed_step: int = 0, active: bool = True, **options) -> RunLog:
    return RunLog(
        str(folder),
        total_steps=100,
        resumed_step=resumed_step,
        active=active,
        data_wait_warning=0.05,
        **options,
    )


def test_meters_average_over_micro_batches_and_start_again():
    meters = Meters()
    for loss in (1.0, 3.0):
        meters.add({"loss": torch.tensor(loss)})
    assert meters.read() == {"loss": 2.0}
    meters.add({"loss": torch.tensor(5.0)})
    assert meters.read() == {"loss": 5.0}


def test_a_log_line_says_speed_data_wait_and_time_left():
    assert describe(LINE, 100) == (
        "step 10/100  loss 0.5000  lr 1.00e-03  100 samples/s  data wait 1.5%  ETA 1:15"
    )
    assert "100 samples/s  MFU 41.2%  data wait 1.5%" in describe(LINE | {"tflops": 407.5, "mfu": 0.412}, 100)
    assert "data wait 1.5%  3 replaced  ETA 1:15" in describe(LINE | {"faults": 3}, 100)
    assert "data wait 1.5%  7 requests repeated  ETA" in describe(LINE | {"storage_retries": 7.0}, 100)


def test_what_is_no_finite_number_is_null_in_the_files_and_published_nowhere(tmp_path):
    published: list[dict] = []
    run_log(tmp_path, publish=published.append).write(
        LINE | {"loss": float("nan"), "grad_norm": float("inf")}
    )
    [text] = (tmp_path / "metrics.jsonl").read_text().splitlines()
    line = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert line == LINE | {"loss": None, "grad_norm": None}
    assert published == [{name: value for name, value in LINE.items() if name not in ("loss", "grad_norm")}]
    assert "loss not finite  lr" in describe(line, 100)


def test_every_line_is_published_by_rank_zero_alone(tmp_path):
    published: list[dict] = []
    run_log(tmp_path, publish=published.append).write(LINE)
    run_log(tmp_path, active=False, publish=published.append).write(LINE)
    assert published == [LINE]


def test_too_much_waiting_is_explained_in_the_log(tmp_path, caplog):
    log = run_log(tmp_path)
    for share in (0.5, 0.04, 0.2):
        log.write(LINE | {"data_wait_share": share})
    [warning] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("waiting for data took 20% of the time, more than log.data_wait_warning (5%)")


def test_lines_past_the_checkpoint_are_forgotten_on_resume(tmp_path):
    log = run_log(tmp_path)
    for step in (10, 20, 30):
        log.write(LINE | {"step": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')  # torn by a kill
    run_log(tmp_path, resumed_step=20)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [10, 20]


def test_only_rank_zero_writes(tmp_path):
    log = run_log(tmp_path, active=False)
    log.write(LINE)
    log.write_faults([{"sample": 1, "uri": "a", "reason": "b", "replaced_by": 2}], 10)
    log.flush()
    assert list(tmp_path.iterdir()) == []


def test_faults_carry_the_step_at_which_they_were_met(tmp_path):
    log = run_log(tmp_path)
    log.write_faults([{"sample": 7, "uri": "a.mp4", "reason": "no frames", "replaced_by": 3}], 10)
    assert json.loads((tmp_path / "faults.jsonl").read_text()) == {
        "step": 10,
        "sample": 7,
        "uri": "a.mp4",
        "reason": "no frames",
        "replaced_by": 3,
    }


def test_a_driver_that_was_replaced_writes_no_more_lines_and_takes_none_back(tmp_path):
    (tmp_path / "drivers").mkdir()
    fence = Fence(str(tmp_path / "drivers"), 1)
    stale = run_log(tmp_path, fence=fence)
    stale.write(LINE)
    (tmp_path / "drivers" / "000002.json").write_text("{}")
    for work in (lambda: stale.write(LINE | {"step": 20}), lambda: run_log(tmp_path, fence=fence)):
        with pytest.raises(FencedOffError, match="driver 2 has taken over from driver 1"):
            work()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [10]
