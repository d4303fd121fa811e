"""Objects of an S3-compatible store: the half of storage that goes over the network.

Every request passes through `ObjectPlace.ask`, which repeats it with full jitter until a deadline and turns
the last failure into a message without its cause (that could show what must stay secret).
"""

from __future__ import annotations

import contextlib
import io
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from mae_dist.storage.client import Answer, Client, connect
from mae_dist.storage.errors import (
    StorageError,
    StorageNotFoundError,
    endpoint,
    error_code,
    explain,
    is_transient,
)
from mae_dist.storage.local import FileInfo
from mae_dist.storage.ranged import RangedFile
from mae_dist.storage.traffic import count

LARGE_BYTES = 8 << 20
"""Objects above this size are fetched in parallel pieces of it."""
PART_BYTES = 8 << 20
"""Data above this size are sent in parallel parts of it; S3 refuses parts below 5 MiB."""
_MOST_PARTS = 10_000  # of one upload, by the S3 API

T = TypeVar("T")

# Not the module's generator, which a program may have seeded alike everywhere: then all would wait alike.
_jitter = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """A key of a bucket, and what can be done with it; the functions of storage say what each means."""

    uri: str
    bucket: str
    key: str
    patience_seconds: float

    @property
    def where(self) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self.key}

    @property
    def prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    def ask(self, verb: str, request: Callable[[Client], T], *, attempts: list[int] | None = None) -> T:
        """request(client), repeated while it may still succeed; the last failure explained without its cause,
        which could show what must stay secret. The number of each attempt is added to `attempts`."""
        began = time.monotonic()
        for attempt in range(1_000):
            if attempts is not None:
                attempts.append(attempt)
            count(requests=1, retries=min(attempt, 1))
            try:
                return request(connect())
            except StorageError as error:
                raise StorageError(f"{self.uri}: cannot {verb}: {error}") from None
            except Exception as error:
                waited = time.monotonic() - began
                failure = error
            if not is_transient(failure) or waited > self.patience_seconds:
                break
            time.sleep(_jitter.uniform(0, min(5.0, 0.1 * 2**attempt)))
        explained = explain(failure, uri=self.uri, bucket=self.bucket, verb=verb, waited_seconds=waited)
        del failure  # whoever prints the variables of a traceback would print its request
        if isinstance(explained, StorageNotFoundError) and verb != "find the bucket":
            self.check_bucket()  # a HEAD request says 404 for a missing bucket too
        raise explained from None

    def check_bucket(self) -> None:
        """Raise unless the bucket is there; its absence answers HEAD with a 404 that names nothing."""
        try:
            self.ask("find the bucket", lambda client: client.call("head_bucket", Bucket=self.bucket))
        except StorageNotFoundError:
            raise StorageError(
                f"{self.uri}: no bucket {self.bucket!r} at {endpoint()}; create it, or correct the name "
                f"or AWS_ENDPOINT_URL"
            ) from None

    def is_root(self) -> bool:
        return not self.key

    def head(self) -> Any | None:
        """The store's description of the object, None if there is no such object."""
        try:
            return self.ask("read", lambda client: client.call("head_object", **self.where))
        except StorageNotFoundError:
            return None

    def exists(self) -> bool:
        if self.key and self.head() is not None:
            return True
        return next(self.pages(delimiter="", at_most=1)).get("KeyCount", 0) > 0 or not self.key

    def description(self) -> Any:
        head = self.head()
        if head is None:
            raise StorageNotFoundError(f"{self.uri}: no such file")
        return head

    def size(self) -> int:
        return self.description()["ContentLength"]

    def read(self, start: int, length: int | None) -> bytes:
        if length is not None:
            return self.read_range(start, length)
        whole = self.get(start, None)
        if whole.data is not None:
            return whole.data
        starts = range(start, start + whole.num_bytes, LARGE_BYTES)
        ends = [*starts[1:], start + whole.num_bytes]
        with ThreadPoolExecutor(8) as pool:
            pieces = pool.map(lambda a, b: self.read_range(a, b - a, etag=whole.etag), starts, ends)
            return b"".join(pieces)

    def read_range(self, start: int, length: int, *, etag: str | None = None) -> bytes:
        return self.get(start, length, etag=etag).data or b""

    def get(self, start: int, length: int | None, *, etag: str | None = None) -> Answer:
        def request(client: Client) -> Answer:
            try:
                return client.get(
                    self.bucket, self.key, start=start, length=length, at_most=LARGE_BYTES, etag=etag
                )
            except Exception as error:
                if error_code(error) == "InvalidRange":  # from the end on there are no bytes, as in a slice
                    return Answer(b"", 0, None)
                raise

        return self.ask("read", request)

    def write(self, data: bytes) -> None:
        if len(data) > PART_BYTES:
            self.write_parts(data)
            return
        self.ask(
            "write", lambda client: client.call("put_object", **self.where, Body=data, sent_bytes=len(data))
        )

    def write_parts(self, data: bytes) -> None:
        """The object in parts, each repeated for itself; it appears with the last request or not at all."""
        part_bytes = max(PART_BYTES, -(-len(data) // _MOST_PARTS))
        upload = self.ask("write", lambda client: client.call("create_multipart_upload", **self.where))
        where = self.where | {"UploadId": upload["UploadId"]}

        def send(number: int) -> dict[str, Any]:
            part = data[(number - 1) * part_bytes : number * part_bytes]
            answer = self.ask(
                "write",
                lambda client: client.call(
                    "upload_part", **where, PartNumber=number, Body=part, sent_bytes=len(part)
                ),
            )
            names = {"ETag", "ChecksumCRC32"} & answer.keys()  # what the store wants to be told again
            return {"PartNumber": number} | {name: answer[name] for name in names}

        attempts: list[int] = []

        def complete(client: Client) -> None:
            try:
                client.call("complete_multipart_upload", **where, MultipartUpload={"Parts": parts})
            except Exception as error:
                # An earlier attempt may have arrived although its answer was lost.
                if error_code(error) != "NoSuchUpload" or len(attempts) == 1 or self.size() != len(data):
                    raise

        try:
            with ThreadPoolExecutor(4) as pool:
                parts = list(pool.map(send, range(1, -(-len(data) // part_bytes) + 1)))
            self.ask("write", complete, attempts=attempts)
        except BaseException:
            with contextlib.suppress(StorageError):  # what went wrong first is what matters
                self.ask("write", lambda client: client.call("abort_multipart_upload", **where))
            raise

    def append(self, data: bytes) -> None:
        # Computed once, so that repeating the request cannot append twice.
        before = self.read(0, None) if self.head() is not None else b""
        self.write(before + data)

    def create(self, data: bytes) -> bool:
        attempts: list[int] = []

        def request(client: Client) -> bool:
            try:
                client.call("put_object", **self.where, Body=data, IfNoneMatch="*")
            except Exception as error:
                if error_code(error) != "PreconditionFailed":
                    raise
                return False
            return True

        created = self.ask("write", request, attempts=attempts)
        # An earlier attempt may have arrived although its answer was lost: then the object found is ours.
        return created or (len(attempts) > 1 and self.read(0, None) == data)

    def pages(self, *, delimiter: str, at_most: int = 1000) -> Iterator[dict[str, Any]]:
        """Answers of the store to a listing below this prefix, one or more."""
        options: dict[str, Any] = {
            "Bucket": self.bucket,
            "Prefix": self.prefix,
            "Delimiter": delimiter,
            "MaxKeys": at_most,
        }
        while True:
            page = self.ask("list", lambda client: client.call("list_objects_v2", **options))
            yield page
            if not page.get("IsTruncated"):
                return
            options["ContinuationToken"] = page["NextContinuationToken"]

    def names(self) -> list[str]:
        found: set[str] = set()
        for page in self.pages(delimiter="/"):
            found |= {entry["Prefix"] for entry in page.get("CommonPrefixes", [])}
            found |= {entry["Key"] for entry in page.get("Contents", [])}
        names = {key[len(self.prefix) :].strip("/") for key in found}
        return [name for name in names if name]  # a store's own folder marker has no name below itself

    def walk(self) -> Iterator[FileInfo]:
        head = self.head() if self.key else None
        if head is not None:
            yield FileInfo(self.uri, head["ContentLength"], head["ETag"])
        for page in self.pages(delimiter=""):
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):
                    yield FileInfo(f"s3://{self.bucket}/{entry['Key']}", entry["Size"], entry["ETag"])

    def delete(self) -> None:
        self.ask("delete", lambda client: client.call("delete_object", **self.where))

    def delete_tree(self) -> None:
        self.delete()
        for page in list(self.pages(delimiter="")):
            if page.get("Contents"):
                self.delete_keys([entry["Key"] for entry in page["Contents"]])

    def delete_keys(self, keys: list[str]) -> None:
        what = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self.ask(
            "delete", lambda client: client.call("delete_objects", Bucket=self.bucket, Delete=what)
        )
        for kept in answer.get("Errors", []):
            raise StorageError(f"{self.uri}: cannot delete {kept['Key']}: {kept.get('Code', 'refused')}")

    def open(self) -> BinaryIO:
        head = self.description()

        def fetch(start: int, length: int) -> bytes:
            data = self.read_range(start, length, etag=head.get("ETag"))
            count(bytes_read=len(data))
            return data

        return io.BufferedReader(RangedFile(head["ContentLength"], fetch), buffer_size=1 << 20)

    def check_read(self) -> None:
        if self.key and self.head() is not None:
            self.read_range(0, 1)

    def check_write(self) -> None:
        # Opening a multipart upload needs the permission to write, and leaves nothing when it is given up.
        where: dict[str, Any] = self.where | {"Key": f"{self.prefix}.write-check"}
        upload = self.ask("write", lambda client: client.call("create_multipart_upload", **where))
        where["UploadId"] = upload["UploadId"]
        self.ask("write", lambda client: client.call("abort_multipart_upload", **where))
