"""Credentials stay in the environment: no message, traceback, log or file of a run repeats them."""

from __future__ import annotations

import io
import logging
import pickle
import socket
import traceback
from collections.abc import Iterator
from dataclasses import asdict

import pytest
from PIL import Image

from mae_dist import storage
from mae_dist.config.load import load
from mae_dist.config.schema import RunConfig
from mae_dist.data.batch import build_block
from mae_dist.data.sources import make_source
from mae_dist.orchestrate import experiment
from mae_dist.orchestrate.provenance import record
from mae_dist.orchestrate.store import DriverLock, RunStore
from mae_dist.report.publish import write_report
from mae_dist.storage import StorageError
from mae_dist.storage.client import TIMEOUT_VARIABLE
from mae_dist.train.exporting import export
from mae_dist.train.metrics import RunLog
from mae_dist.train.training import Training
from mae_dist.train.worker import build_task
from tests.faults.s3_proxy import S3Proxy, s3_proxy
from tests.train.test_guard_and_metrics import LINE

CANARY = "canary"


@pytest.fixture
def canary(s3_bucket, s3_server, monkeypatch, caplog) -> Iterator[S3Proxy]:
    """A server behind a proxy, secrets that can be recognised, and a log of everything."""
    uri = storage.join(s3_bucket, "a.bin")
    storage.write_bytes(uri, bytes(100))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"AKIA{CANARY}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{CANARY}-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{CANARY}-token")
    monkeypatch.setenv(TIMEOUT_VARIABLE, "0.5")
    monkeypatch.setattr(storage, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(storage, "CHECK_SECONDS", 0.1)
    caplog.set_level(logging.DEBUG)
    with s3_proxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def _everything(error: BaseException) -> str:
    """All that a log, a debugger or another process may show of an error and of those behind it."""
    shown = [
        pickle.dumps(error).decode("latin1"),
        "".join(traceback.TracebackException.from_exception(error).format()),
    ]
    seen: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None and one not in seen:
            seen.append(one)
            shown += [repr(one), str(one), repr(one.args), repr(vars(one))]
            pending += [one.__cause__, one.__context__]
    return "\n".join(shown)


_ANYTHING_FAILS = ["no bucket", "refused", "reset", "hang", "503", "500", "403"]


@pytest.mark.parametrize(
    ("kind", "ask"),
    [(kind, storage.read_bytes) for kind in ["404", "truncate", "flip", *_ANYTHING_FAILS]]
    + [(kind, storage.check_writable) for kind in _ANYTHING_FAILS],
)
def test_no_failure_shows_a_secret(s3_bucket, canary, monkeypatch, caplog, kind, ask):
    uri = storage.join(s3_bucket, "a.bin")
    if kind == "404":
        uri = storage.join(s3_bucket, "missing")
    elif kind == "no bucket":
        uri = "s3://never-made/a.bin"
    elif kind == "refused":
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
    else:
        canary.spoil({kind: 1.0}, seed=0)
    with pytest.raises(StorageError) as caught:
        ask(uri)
    assert str(caught.value).startswith(uri)
    assert CANARY not in _everything(caught.value)
    assert CANARY not in caplog.text


@pytest.mark.parametrize("where", ["environment", "profile"])
def test_credentials_in_the_endpoint_are_refused(canary, monkeypatch, tmp_path, where):
    url = canary.url.replace("http://", f"http://{CANARY}:{CANARY}-word@")
    if where == "environment":
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    else:
        (tmp_path / "config").write_text(f"[default]\nendpoint_url = {url}\n")
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(
        StorageError, match=r"s3://bucket/key: cannot read: AWS_ENDPOINT_URL: holds a user name or a password"
    ) as caught:
        storage.check_readable("s3://bucket/key")
    assert CANARY not in _everything(caught.value)
    assert canary.num_requests == 0


INPUTS = {"catalog": "digest of the samples", "test_catalog": "digest of the others"}


def _files_of_a_run(config: RunConfig, reason: str) -> dict[str, bytes]:
    """Every kind of file that a run leaves, by name, each written by those who write it in a run."""
    uri = experiment.run_uri(config, INPUTS)
    with DriverLock(uri):
        record(uri, config, cluster={"CPU": 4.0}, use_gpu=False)
        samples = make_source(config.data.catalog, work_folder=uri)
        samples.save(storage.join(uri, "catalog", "train", "catalog.parquet"))
        storage.delete(storage.join(config.data.catalog, "1.png"))  # a fault from here on
        training = Training(config=config, output=uri, catalog="")
        log = RunLog(uri, total_steps=10, resumed_step=0, active=True, data_wait_warning=0.05)
        log.write(LINE)
        faults = build_block(0, samples, training.stream())["faults"]
        log.write_faults([asdict(fault) for fault in faults], step=1)
        log.flush()
        export(training, build_task(training, num_classes=2), samples)
        steps = {step.name: step for step in experiment.build_steps(config, INPUTS, use_gpu=False)}
        RunStore(uri).fail(steps["finetune-random"], seconds=1.0, reason=reason)
        write_report(uri)
        return {
            file.uri.removeprefix(f"{uri}/"): storage.read_bytes(file.uri) for file in storage.walk_files(uri)
        }


def test_no_file_of_a_run_holds_a_secret(s3_bucket, canary, monkeypatch):
    # Nothing is to fail here but one sample, however busy the machine is.
    monkeypatch.setenv(TIMEOUT_VARIABLE, "30")
    monkeypatch.setattr(storage, "RETRY_SECONDS", 60.0)
    for number in range(2):
        picture = io.BytesIO()
        Image.new("RGB", (32, 24), (number, 0, 0)).save(picture, "PNG")
        storage.write_bytes(storage.join(s3_bucket, f"images/{number}.png"), picture.getvalue())
    config = load("pretrain/demo", [f"storage={s3_bucket}/runs", f"data.catalog={s3_bucket}/images"])
    with pytest.raises(StorageError) as caught:
        storage.read_bytes(storage.join(s3_bucket, "missing"))
    files = _files_of_a_run(config, reason=str(caught.value))
    assert {name for name in files if not name.startswith("tensorboard/")} == {
        "config.yaml",
        "environment.json",
        "drivers/000001.json",
        "drivers/000001.settled",
        "catalog/train/catalog.parquet",
        "metrics.jsonl",
        "progress.json",
        "faults.jsonl",
        "export/model.safetensors",
        "export/model_card.md",
        "evaluations/finetune-random/FAILED.json",
        "report/index.html",
        "report/report.json",
    }
    assert [name for name, content in files.items() if CANARY.encode() in content] == []
