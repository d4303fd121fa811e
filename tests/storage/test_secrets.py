"""Credentials stay in the environment: no message, traceback, log or written file repeats them."""

from __future__ import annotations

import logging
import pickle
import socket
import traceback
from collections.abc import Iterator

import pytest

from mae_dist import storage
from mae_dist.storage import StorageError
from mae_dist.storage.client import TIMEOUT_VARIABLE
from tests.faults.s3_proxy import S3Proxy, s3_proxy

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
