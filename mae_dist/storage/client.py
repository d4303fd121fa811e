"""One request to an object store: the client of this process, how long it waits, and what a whole answer is.

Endpoint and credentials come from the usual chain of AWS (environment, profile, role). A request is given up
when the server is silent for MAE_DIST_S3_TIMEOUT_SECONDS (10 unless set), or when it takes as much longer as
its bytes would need on the slowest line; `ObjectPlace.ask` then repeats it. Nothing is repeated here, because
two layers of repetition would multiply.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mae_dist.storage.errors import BrokenAnswerError, StorageError

TIMEOUT_VARIABLE = "MAE_DIST_S3_TIMEOUT_SECONDS"
_TIMEOUT_SECONDS = 10.0
_SLOWEST_BYTES_PER_SECOND = 64 << 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a GET brought."""

    data: bytes | None
    """None if there is more than the caller would take in one request."""
    num_bytes: int
    """Length of what was asked for, whether it was fetched or not."""
    etag: str | None
    """The store's name for this version of the object."""


@dataclass(frozen=True, slots=True)
class Client:
    """Sends single requests; errors are those of botocore and aiohttp, or BrokenAnswerError."""

    files: Any
    """The s3fs filesystem that owns connections and event loop."""
    timeout_seconds: float

    def call(self, operation: str, *, sent_bytes: int = 0, **parameters: Any) -> dict[str, Any]:
        """The store's answer to one operation of the S3 API ("head_object", ...)."""

        async def request(s3: Any) -> dict[str, Any]:
            return await getattr(s3, operation)(**parameters)

        return self._within(sent_bytes, request)

    def get(
        self, bucket: str, key: str, *, start: int, length: int | None, at_most: int, etag: str | None = None
    ) -> Answer:
        """Bytes of an object from `start` on, all there are or `length` of them (fewer at its end).

        Without a length, nothing is fetched if there are more than `at_most`. With an `etag` the store
        answers PreconditionFailed if the object has been replaced by another version.
        """
        parameters: dict[str, Any] = {"Bucket": bucket, "Key": key}
        # A whole object is asked for without a range: many stores then add the checksum that was recorded
        # when it was written, and botocore compares it.
        if start or length is not None:
            parameters["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        if etag is not None:
            parameters["IfMatch"] = etag

        async def request(s3: Any) -> Answer:
            answer = await s3.get_object(**parameters)
            body = answer["Body"]
            try:
                num_bytes = _promised(answer, start, length)
                if length is None and num_bytes is not None and num_bytes > at_most:
                    return Answer(None, num_bytes, answer.get("ETag"))
                data = await body.read()
            finally:
                body.close()
            if num_bytes is not None and len(data) != num_bytes:
                raise BrokenAnswerError(f"{len(data)} of {num_bytes} bytes came")
            if "ContentRange" not in answer:  # a server that knows no ranges sends everything
                data = data[start:] if length is None else data[start : start + length]
            return Answer(data, len(data), answer.get("ETag"))

        return self._within(at_most if length is None else length, request)

    def _within(self, num_bytes: int, request: Callable[[Any], Awaitable[T]]) -> T:
        """request(client of aiobotocore) on the event loop, cancelled after its time."""

        async def limited() -> T:
            async with asyncio.timeout(self.timeout_seconds + num_bytes / _SLOWEST_BYTES_PER_SECOND):
                s3 = await self.files.set_session()
                if "@" in urlsplit(s3.meta.endpoint_url).netloc:
                    raise StorageError(
                        "AWS_ENDPOINT_URL: holds a user name or a password, which end up in logs; give "
                        "http://host:port, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                    )
                return await request(s3)

        return asyncio.run_coroutine_threadsafe(limited(), self.files.loop).result()


def _promised(answer: dict[str, Any], start: int, length: int | None) -> int | None:
    """How many bytes the body must have by the headers; None if they do not say. Raises BrokenAnswerError if
    they name another range than the one that was asked for."""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.get("ContentRange", ""))
    if found is None:
        return answer.get("ContentLength")
    first, last, size = int(found[1]), int(found[2]), found[3]
    ends = [] if length is None else [start + length]
    ends += [] if size == "*" else [int(size)]
    if first != start or (ends and last + 1 != min(ends)):
        raise BrokenAnswerError(f"bytes {first}-{last} of {size} came, those from {start} on were asked for")
    return last + 1 - first


_clients: dict[tuple[int, int], Client] = {}


def connect() -> Client:
    """The client of this process and environment; a forked child must not use its parent's."""
    relevant = (name for name in os.environ if name.startswith("AWS_") or name in ("HOME", TIMEOUT_VARIABLE))
    key = (os.getpid(), hash(tuple((name, os.environ[name]) for name in sorted(relevant))))
    if key not in _clients:
        _clients.setdefault(key, _new_client())
    return _clients[key]


def _new_client() -> Client:
    import s3fs

    # At level DEBUG these log every header: the session token, and signatures made with the key.
    for name in ("botocore", "aiobotocore", "boto3", "s3fs", "aiohttp"):
        if logging.getLogger(name).getEffectiveLevel() < logging.INFO:
            logging.getLogger(name).setLevel(logging.INFO)
    timeout_seconds = _timeout_seconds()
    files = s3fs.S3FileSystem(
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": min(5.0, timeout_seconds),
            "read_timeout": timeout_seconds,
            "max_pool_connections": 64,
            "retries": {"total_max_attempts": 1},
        },
    )
    return Client(files, timeout_seconds)


def _timeout_seconds() -> float:
    given = os.environ.get(TIMEOUT_VARIABLE, str(_TIMEOUT_SECONDS))
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise StorageError(f"{TIMEOUT_VARIABLE}: must be a number of seconds above 0, got {given!r}")
    return seconds
