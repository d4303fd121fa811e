"""What several test files need: an S3 server over HTTP and a private environment for its clients."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class S3Server:
    """A running S3 server that accepts any credentials."""

    endpoint: str
    env: dict[str, str]
    """What a client's environment needs to reach it."""


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """moto's S3 server in a thread of this process, over HTTP on a free port."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    env = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test-key",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    yield S3Server(endpoint, env)
    server.stop()


@pytest.fixture
def aws_env(tmp_path_factory, monkeypatch) -> None:
    """No credentials, no endpoint and no configuration of the developer's machine."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def s3_bucket(s3_server: S3Server, aws_env, monkeypatch) -> str:
    """`s3://...` of a fresh bucket, with the environment set so that this process reaches it."""
    import uuid

    import boto3

    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    client = boto3.client("s3", endpoint_url=s3_server.endpoint)
    client.create_bucket(Bucket=bucket)
    client.close()
    return f"s3://{bucket}"


@pytest.fixture(params=["path", "file", "s3"])
def root(request, tmp_path) -> str:
    """An empty place to write below, in each way that storage knows."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_bucket')}/some/folder"
    return str(tmp_path) if request.param == "path" else f"file://{tmp_path}"


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory) -> Iterator[str]:
    """One Ray for all tests that need it (a start costs seconds), with a home of its own; its address."""
    import ray

    home = os.environ.get("HOME")
    os.environ |= {
        "HOME": str(tmp_path_factory.mktemp("ray-home")),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    context = ray.init(
        address="local",
        num_cpus=6,
        object_store_memory=512 << 20,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level="error",
    )
    yield context.address_info["address"]
    ray.shutdown()
    if home is not None:
        os.environ["HOME"] = home
