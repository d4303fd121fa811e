"""What storage says when it cannot: where, what, what would be right, and never a secret."""

from __future__ import annotations

import copy
import json
import os
import socket
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mae_dist import storage
from mae_dist.storage import StorageError, StorageNotFoundError


@pytest.mark.parametrize(
    "ask", [storage.read_bytes, storage.size, storage.open_seekable, storage.check_readable]
)
def test_a_missing_file_is_named(root, ask):
    uri = storage.join(root, "nothing.here")
    with pytest.raises(StorageNotFoundError, match=r"nothing\.here: no such file"):
        ask(uri)
    assert not storage.exists(uri)


@pytest.mark.parametrize(
    "ask",
    [
        storage.read_bytes,
        storage.exists,
        storage.list_dir,
        storage.check_readable,
        storage.check_writable,
        lambda uri: storage.write_bytes(uri, b"x"),
        lambda uri: storage.create_exclusive(uri, b"x"),
    ],
)
def test_a_missing_bucket_is_named(s3_bucket, s3_server, ask):
    with pytest.raises(StorageError, match="no bucket 'not-made-yet' at") as caught:
        ask("s3://not-made-yet/k400/catalog.parquet")
    message = str(caught.value)
    assert message.startswith("s3://not-made-yet/k400/catalog.parquet: ")
    assert s3_server.endpoint in message
    assert "create it, or correct the name" in message


@pytest.mark.parametrize("ask", [storage.check_readable, storage.check_writable, storage.read_bytes])
def test_missing_credentials_are_named(s3_server, aws_env, monkeypatch, ask):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    with pytest.raises(
        StorageError, match=r"no usable credentials .*set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    ):
        ask("s3://any-bucket/key")


def test_an_unreachable_endpoint_is_named(s3_bucket, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(storage, "CHECK_SECONDS", 0.2)
    with pytest.raises(
        StorageError, match=f"no answer from http://127.0.0.1:{port} in .*check AWS_ENDPOINT_URL"
    ):
        storage.check_readable(f"{s3_bucket}/catalog.parquet")


def test_an_endpoint_that_is_not_a_url_is_named(s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not a url")
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL must look like http://host:port"):
        storage.check_readable(f"{s3_bucket}/catalog.parquet")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("gs://bucket/key", "give a local path, file:///path or s3://bucket/key"),
        ("file://host/path", "give a local path, file:///path or s3://bucket/key"),
        ("s3:///key", "no bucket; give s3://bucket/key"),
        ("s3://key:secret@bucket/key", "credentials do not belong in a URI"),
    ],
)
def test_a_uri_that_cannot_be_meant_is_refused(uri, message):
    with pytest.raises(StorageError, match=message) as caught:
        storage.read_bytes(uri)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["/", "file:///", "s3://bucket", "s3://bucket/"])
def test_a_whole_disk_or_bucket_is_never_deleted(uri):
    with pytest.raises(StorageError, match="never deleted"):
        storage.delete_tree(uri)


def test_a_file_where_a_folder_is_needed_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for ask in [storage.check_writable, lambda uri: storage.write_bytes(uri, b"x")]:
        with pytest.raises(StorageError, match=r"file/run/config\.yaml: cannot write: "):
            ask(str(tmp_path / "file" / "run" / "config.yaml"))
    with pytest.raises(StorageError, match="cannot read: Is a directory"):
        storage.read_bytes(str(tmp_path))


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    (tmp_path / "list.csv").write_text("a.mp4 0")
    monkeypatch.setattr(
        os, "access", lambda *_: False
    )  # root, who runs tests in containers, may do everything
    with pytest.raises(StorageError, match="no permission to create files in"):
        storage.check_writable(str(tmp_path / "runs"))
    with pytest.raises(StorageError, match=r"list\.csv: cannot read: permission denied"):
        storage.check_readable(str(tmp_path / "list.csv"))


def test_checking_leaves_nothing_behind(root):
    storage.check_writable(storage.join(root, "runs/first"))
    assert list(storage.walk_files(root)) == []
    assert storage.list_dir(root) == []


def test_a_storage_error_survives_the_way_between_processes():
    error = copy.copy(StorageNotFoundError("s3://b/k: no such file"))  # copies as pickle does
    assert isinstance(error, StorageNotFoundError)
    assert str(error) == "s3://b/k: no such file"


# A server that misbehaves.


class _Script(BaseHTTPRequestHandler):
    """Answers with the next (status, error code) of a list, then with a good object."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.num_requests += 1  # type: ignore[attr-defined]
        answers = self.server.answers  # type: ignore[attr-defined]
        status, body = answers.pop(0) if answers else (200, b"good")
        if status == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")
            self.close_connection = True
            return
        if status != 200:
            body = f"<Error><Code>{body}</Code><Message>canary-secret</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def moody(aws_env, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Script)
    server.answers, server.num_requests = [], 0  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary-token")
    monkeypatch.setattr(storage, "RETRY_SECONDS", 20.0)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "failure", [(503, "SlowDown"), (500, "InternalError"), (429, "TooMany"), ("cut", b"")]
)
def test_a_failure_that_passes_is_waited_out(moody, failure):
    moody.answers = [failure, failure]
    assert storage.read_bytes("s3://bucket/key") == b"good"
    assert moody.num_requests == 3


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "InvalidAccessKeyId", "refused the credentials .InvalidAccessKeyId.; check AWS_ACCESS_KEY_ID"),
        (
            403,
            "AccessDenied",
            "access denied; these credentials have no permission to read in bucket 'bucket'",
        ),
        (404, "NoSuchBucket", "no bucket 'bucket' at http://127.0.0.1"),
        (301, "PermanentRedirect", "in another region .PermanentRedirect.; set AWS_DEFAULT_REGION"),
        (400, "Strange", "answered Strange .HTTP status 400."),
    ],
)
def test_a_refusal_is_explained_at_once_and_without_secrets(moody, status, code, message):
    moody.answers = [(status, code)] * 8
    with pytest.raises(StorageError, match=message) as caught:
        storage.read_bytes("s3://bucket/key")
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert "canary" not in repr(caught.value)


def test_a_server_that_stays_broken_is_given_up_without_secrets(moody, monkeypatch):
    assert storage.read_bytes("s3://bucket/key") == b"good"  # connected
    monkeypatch.setattr(storage, "RETRY_SECONDS", 2.0)
    moody.answers = [(503, "SlowDown")] * 1000
    with pytest.raises(StorageError, match=r"answered SlowDown .HTTP status 503.") as caught:
        storage.write_bytes("s3://bucket/key", json.dumps("x").encode())
    assert moody.num_requests > 2
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_a_lock_whose_answer_was_lost_is_still_ours(moody):
    moody.answers = [(500, "InternalError"), (412, "PreconditionFailed"), (200, b"driver 7")]
    assert storage.create_exclusive("s3://bucket/LOCK", b"driver 7")
    moody.answers = [(500, "InternalError"), (412, "PreconditionFailed"), (200, b"driver 8")]
    assert not storage.create_exclusive("s3://bucket/LOCK", b"driver 7")
